"""What numbers say about each other, whatever they measure: bootstrap intervals, and rankings that are compared.

Nothing here knows an episode, a market or a file: metrics and scores come in as numbers.
"""
