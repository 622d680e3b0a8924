"""Shapes are checked at every public boundary while tests run."""

from hypothesis import settings
from jaxtyping import install_import_hook

# Installed before any test imports keel, so that every annotated function is checked at run time.
_hook = install_import_hook("keel", "beartype.beartype")

# A busy machine is no failure: how long an example takes says nothing about whether it is right.
settings.register_profile("keel", deadline=None)
settings.load_profile("keel")
