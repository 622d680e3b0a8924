"""The stages of a run: each reads what is before it in the run directory, and leaves its own folder behind."""
