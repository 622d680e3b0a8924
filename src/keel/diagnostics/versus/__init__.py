"""Finished runs side by side: what differs between them, and what can be concluded from it."""
