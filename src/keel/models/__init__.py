"""Language models and their heads: loading, the packed forward pass, and who shares which weights."""
