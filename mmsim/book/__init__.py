"""The order book: a matching engine over flat arrays, its naive reference, and a Python view."""
