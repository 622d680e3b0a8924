"""Keel: reinforcement learning from human feedback, from comparisons to an aligned policy."""

__version__ = "0.1.0"
