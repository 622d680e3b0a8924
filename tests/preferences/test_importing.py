"""Other people's files in a recipe: the published numbers come out, and errors name file and line."""

import functools
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from keel.errors import UserError
from keel.preferences.aggregate import majority, mean, to_preferences
from keel.preferences.agreement import measure
from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.judgement import Judgement, Votes, collect
from keel.preferences.merging import merge
from keel.preferences.store import PreferenceStore
from keel.preferences.votes_file import Named
from keel.preferences.votes_file.history import read_history

from .tables import DATA, PANDALM

PANDALM_FILE = DATA / "pandalm-testset-v1.json"
UKP_FILE = DATA / "ukp-convincing-arguments.jsonl.gz"
needs_pandalm = pytest.mark.skipif(not PANDALM_FILE.is_file(), reason="shared/data/pandalm-testset-v1.json is not here")
needs_ukp = pytest.mark.skipif(
    not UKP_FILE.is_file(), reason="shared/data/ukp-convincing-arguments.jsonl.gz is not here"
)


@needs_pandalm
def test_pandalm_as_published(place: str) -> None:
    with PreferenceStore.open(place) as store:
        labels = read_history(PANDALM_FILE, PANDALM)
        assert (len(labels.items), len(labels.judgements)) == (999, 2997)
        merge(store.database, labels)
        items, judgements = store.items(), store.history()
        merge(store.database, labels)  # again changes nothing
        assert store.history() == judgements
        assert store.annotators() == dict.fromkeys(PANDALM.annotators, "imported")
    votes = collect(judgements)
    found = measure(votes, resamples=200)
    pairs = {(one[-1], other[-1]): each for (one, other), each in found.cohen_pairs.items()}
    assert {pair: round(each.kappa.value, 3) for pair, each in pairs.items()} == {
        ("1", "2"): 0.852,
        ("1", "3"): 0.879,
        ("2", "3"): 0.862,
    }
    assert round(found.fleiss.value, 3) == 0.864
    assert round(found.unanimous.value, 3) == 0.880
    for each in (found.fleiss, found.unanimous, found.cohen, found.alpha, found.ac1):
        assert each.low < each.value < each.high
    preferences = to_preferences(items, majority(votes), "drop", 0.0)
    assert len(preferences) == 999 - majority(votes).tied.sum() == 894


@functools.cache
def ukp() -> tuple[Votes, np.ndarray]:
    meaning = {"a1": -1, "equal": 0, "a2": 1}
    rows = [json.loads(line) for line in gzip.decompress(UKP_FILE.read_bytes()).splitlines()]
    said = [
        Judgement(row["pair"], vote["annotator"], (0, 1), "comparison", meaning[vote["choice"]])
        for row in rows
        for vote in row["votes"]
    ]
    return collect(said), np.array([meaning.get(row["gold"], math.nan) for row in rows], dtype=float)


@needs_ukp
def test_ukp_a_real_crowd() -> None:
    """Twelve of the 32 debates. Published over all 32: agreement 52.4 %, 73.1 % without ties, Fleiss .267.

    The twelve agree somewhat more, so that the published numbers bound ours only loosely; the gold labels, which the
    authors aggregated from these votes with a model of their own, must come out almost as they are.
    """
    votes, gold = ukp()
    found = measure(votes, resamples=20)
    assert (found.items, found.votes) == (5911, 29485)
    assert found.observed.value == pytest.approx(0.524, abs=0.06)
    assert found.observed_without_ties.value == pytest.approx(0.731, abs=0.02)
    assert found.fleiss.value == pytest.approx(0.267, abs=0.07)
    decided = np.abs(gold) == 1
    for aggregate, least in ((majority(votes), 0.97), (dawid_skene(votes), 0.94)):
        compared = decided & ~aggregate.tied
        agrees = (aggregate.probability < 0.5) == (gold == 1)
        assert agrees[compared].mean() > least


@needs_ukp
def test_ukp_spam_scores_find_those_who_disagree_with_everyone() -> None:
    """Among workers of 20 votes or more; agreement with the others is counted without any model."""
    votes, _ = ukp()
    often = np.bincount(votes.annotator) >= 20
    score, agreement = dawid_skene(votes).spam_score()[often], mean(votes).reliability[often]
    assert len(score) == 202
    assert np.corrcoef(score, agreement)[0, 1] > 0.6
    worst = agreement[np.argsort(score)[:20]]
    assert worst.mean() < np.quantile(agreement, 0.2)


COLUMNS = Named(
    prompt=("question",), first="a", second="b", annotators=("kim", "lee"), values={"left": -2, "same": 0, "right": 2}
)


def test_generic_columns_from_csv(place: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('question,a,b,kim,lee\nWhy?,"Because,\nyes",No,left,\nHow?,Thus,So,same,right\n', encoding="utf-8")
    with PreferenceStore.open(place) as store:
        labels = read_history(path, COLUMNS)
        assert (len(labels.items), len(labels.judgements)) == (2, 3)
        merge(store.database, labels)
        first, second = store.items()
        assert (first.id, first.prompt[0].role, first.prompt[0].content) == ("labels:1", "user", "Why?")
        assert [answer.messages[0].content for answer in first.answers] == ["Because,\nyes", "No"]
        assert second.answers[1].messages[0].role == "assistant"
        assert {(said.item, said.annotator): said.strength for said in store.judgements()} == {
            ("labels:1", "kim"): -2,
            ("labels:2", "kim"): 0,
            ("labels:2", "lee"): 2,
        }


def test_numbers_mean_the_same_in_every_format(tmp_path: Path) -> None:
    row = {"idx": 7, "instruction": "Say", "input": "", "response1": "x", "response2": True}
    (tmp_path / "n.jsonl").write_text(json.dumps(row | {"annotator1": 2.0, "annotator2": "1", "annotator3": None}))
    labels = read_history(tmp_path / "n.jsonl", PANDALM)
    assert [said.strength for said in labels.judgements] == [1, -1]
    (only,) = labels.items
    assert (only.id, only.prompt[0].content) == ("n:7", "Say")  # no blank line for the empty input
    assert only.answers[1].messages[0].content == "true"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "?", "a": "x", "b": "y", "kim": "middle", "lee": ""},
            r"labels.jsonl:2, kim: the verdict 'middle' has no known meaning",
        ),
        ({"question": "?", "a": "x", "b": "y", "kim": "left"}, r"labels.jsonl:2: there is no column 'lee'"),
        ({"question": "?", "a": None, "b": "y", "kim": "", "lee": ""}, r"labels.jsonl:2: column 'a' holds null"),
        (
            {"question": "?", "a": math.nan, "b": "y", "kim": "", "lee": ""},  # what pandas writes for a missing text
            r"labels.jsonl:2: column 'a' holds NaN or an infinity where a text is needed",
        ),
        (
            {"question": "?", "a": "x", "b": "y", "kim": "m" * 500, "lee": ""},
            r"labels.jsonl:2, kim: the verdict 'm{59}…' has no known meaning; give it a meaning",
        ),
    ],
)
def test_errors_name_the_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = tmp_path / "labels.jsonl"
    good = {"question": "?", "a": "x", "b": "y", "kim": "left", "lee": "right"}
    path.write_text("\n".join(json.dumps(each) for each in (good, row)))
    with pytest.raises(UserError, match=message):
        read_history(path, COLUMNS)
