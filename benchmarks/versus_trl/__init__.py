"""Keel beside TRL (and, for generation, vLLM on CPU): the same models, data, lengths, batches and number of updates."""
