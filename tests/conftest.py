"""Shapes are checked at every public boundary while tests run."""

from jaxtyping import install_import_hook

# Installed before any test imports keel, so that every annotated function is checked at run time.
_hook = install_import_hook("keel", "beartype.beartype")
