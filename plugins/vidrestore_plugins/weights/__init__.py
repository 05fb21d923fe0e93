"""Weights of the first-party plugins: what is bundled, what can be fetched, and a model card beside each."""
