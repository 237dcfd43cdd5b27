"""The language-model teacher: prompts, hidden states, ridge heads, the normalized fluorescent probe, the agent.

torch and transformers are imported only inside the functions that run the model.
"""
