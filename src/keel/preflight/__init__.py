"""What can be known to be wrong before the first step of a stage, each fault in a sentence with what to do about it."""
