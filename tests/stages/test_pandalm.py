"""The documented recipe for people's verdicts, on real ones: PandaLM's test set goes in as a user's own table."""

from __future__ import annotations

from pathlib import Path

import pytest

import keel
from keel.config import load_recipe
from keel.display import SilentDisplay
from keel.pipeline import run
from keel.preferences.store import PreferenceStore

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

TABLE = Path(__file__).parents[3] / "shared" / "data" / "pandalm-testset-v1.json"
RECIPE = Path(keel.__file__).parent / "recipes" / "pandalm.yaml"


@pytest.mark.skipif(not TABLE.is_file(), reason="shared/data/pandalm-testset-v1.json is not here")
def test_three_annotators_become_a_reward_model(tmp_path: Path) -> None:
    """Agreement as published, every pair accounted for, and a model that was put to the test on unseen pairs.

    Twelve steps only, which are too few to ask that it be right: the whole recipe takes minutes.
    """
    settings = load_recipe(
        RECIPE,
        {
            "device": "cpu",
            "dtype": "float32",
            "threads": 1,
            "preflight": "say",  # at this length many texts are cut off, which it rightly minds
            "model.max_length": 192,
            "preferences.labels.data": str(TABLE),
            "reward.max_steps": 12,
        },
    )
    summary = run(settings, tmp_path / "run", SilentDisplay())
    people, fitted = summary.stages["preferences"], summary.stages["reward"]
    assert (people["pairs"], people["judgements"], people["annotators"]) == (999, 2997, 3)
    assert round(people["fleiss"]["value"], 3) == 0.864
    assert round(people["unanimous"]["value"], 3) == 0.880
    assert set(people["reliability"]) == {"annotator1", "annotator2", "annotator3"}
    with PreferenceStore.open(tmp_path / "run" / "preferences.db") as store:
        assert len(store.history()) == 2997
        assert set(store.annotators().values()) == {"imported"}
    assert fitted["pairs"] + fitted["held_out_pairs"] + fitted["dropped"] == fitted["given"] == people["pairs"]
    assert 0 < fitted["accuracy_low"] < fitted["accuracy"] < fitted["accuracy_high"] < 1
