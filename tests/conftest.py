"""Shapes are checked at every public boundary while tests run."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from jaxtyping import config, install_import_hook

# Installed before any test imports keel, so that every annotated function is checked at run time.
_hook = install_import_hook("keel", "beartype.beartype")

# A busy machine is no failure: how long an example takes says nothing about whether it is right.
settings.register_profile("keel", deadline=None)
settings.load_profile("keel")


@pytest.fixture(scope="module")
def unchecked_shapes() -> Iterator[None]:
    """No checks of shapes, for whole runs and for hundreds of updates: all that they call is checked elsewhere, and
    they take half the time."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
