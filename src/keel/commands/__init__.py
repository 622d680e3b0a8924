"""The commands of `keel`; each module is imported when its command is called."""
