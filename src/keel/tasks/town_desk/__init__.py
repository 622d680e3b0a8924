"""Town Desk, the default embedded task: short notices for a small town, written from a few facts."""
