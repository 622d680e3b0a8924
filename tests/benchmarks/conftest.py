"""Small inputs, made once."""

from __future__ import annotations

import pytest
from small_spec import SPEC

from benchmarks.versus_trl.inputs import Inputs
from benchmarks.versus_trl.making import make


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make(SPEC, tmp_path_factory.mktemp("benchmarks"))
