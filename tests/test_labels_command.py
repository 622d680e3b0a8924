"""`keel labels agreement` and `keel labels aggregate`, as they are called."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from keel import cli

DATA = Path(__file__).parents[2] / "shared" / "data"
PANDALM = DATA / "pandalm-testset-v1.json"
STATISTICS = ("observed", "observed_without_ties", "cohen", "fleiss", "alpha", "ac1", "unanimous")


@pytest.fixture
def votes(tmp_path: Path) -> str:
    """Four items of which kim, lee and ann judge: agreement on three, a split with a tie on the last."""
    rows = ["item,annotator,label", *(f"{i},{who},{'ab'[i % 2]}" for i in range(3) for who in ("kim", "lee", "ann"))]
    rows += ["3,kim,a", "3,lee,tie", "3,ann,b", "4,eve,a"]
    path = tmp_path / "votes.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    """What a command line that must succeed prints as JSON, and nothing else."""
    assert cli.run(["labels", *argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert cli.run(["labels", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("keel: error: ").strip()


def test_agreement_by_hand(votes: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Items agree on 1, 1, 1 and 0 of their pairs of votes; shares: a (1 + 0 + 1 + 1/3 + 1)/5, b 4/15, a tie 1/15."""
    found = told(capsys, "agreement", votes, "--resamples", "50")
    assert [found[name] for name in ("items", "votes", "annotators", "shared_pairs", "shared_votes")] == [
        5,
        13,
        4,
        4,
        12,
    ]
    assert found["observed"]["value"] == pytest.approx(0.75)
    assert found["unanimous"]["value"] == pytest.approx(0.75)
    assert found["observed_without_ties"]["value"] == pytest.approx(0.75)  # the last item: a against b
    chance = (10 / 15) ** 2 + (4 / 15) ** 2 + (1 / 15) ** 2
    assert found["fleiss"]["value"] == pytest.approx((0.75 - chance) / (1 - chance))
    for name in STATISTICS:
        assert found[name].keys() == {"value", "low", "high"}
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    # nobody shares ten items; four is what the three share
    assert found["shared"] == 4
    assert {tuple(sorted(each["annotators"])): each["items"] for each in found["cohen_pairs"]} == {
        ("kim", "lee"): 4, ("ann", "kim"): 4, ("ann", "lee"): 4,
    }  # fmt: skip
    # kim a b a a, lee a b a tie: ¾ agree; chance (3·2 + 1·1 + 0·1)/16 = 7/16
    kappa = next(each["value"] for each in found["cohen_pairs"] if set(each["annotators"]) == {"kim", "lee"})
    assert kappa == pytest.approx((3 / 4 - 7 / 16) / (1 - 7 / 16))


def test_what_is_undefined_is_null_and_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v.jsonl").write_text('{"item": 1, "annotator": "kim", "label": "first"}\n')
    found = told(capsys, "agreement", str(tmp_path / "v.jsonl"))
    for name in STATISTICS:
        assert found[name] == {"value": None, "low": None, "high": None}
    assert (found["cohen_pairs"], found["ceiling"]) == ([], None)
    (only,) = told(capsys, "aggregate", str(tmp_path / "v.jsonl"))["annotators"]
    assert only == {"annotator": "kim", "votes": 1, "reliability": None}
    assert cli.run(["labels", "agreement", str(tmp_path / "v.jsonl")]) == 0
    page = capsys.readouterr().out
    assert "nothing can be said about agreement" in page
    assert "nan" not in page
    assert page.count("–") >= 2 * len(STATISTICS)


def test_pages_are_plain_where_output_is_piped(votes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["labels", "agreement", votes]) == 0
    page = capsys.readouterr().out
    assert "two annotators say the same 75.0% of the time" in page
    assert "kim and lee" in page
    assert "\x1b" not in page
    for method in ("majority", "mean", "dawid-skene", "bradley-terry"):
        assert cli.run(["labels", "aggregate", votes, "--method", method]) == 0
        page = capsys.readouterr().out
        assert "13 votes by 4 annotators on 5 pairs" in page
        assert "\x1b" not in page


def test_hostile_names_stay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"item": "[red]x[/red]\x1b[31m", "annotator": "[bold]\n" + "k" * 80, "label": "a"}
    (tmp_path / "v.jsonl").write_text(json.dumps(row))
    assert cli.run(["labels", "aggregate", str(tmp_path / "v.jsonl")]) == 0
    page = capsys.readouterr().out
    assert "[red]x[/red]\\x1b[31m" in page
    assert "[bold]\\n" in page
    assert "\x1b" not in page


def test_probabilities_by_hand(votes: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "aggregate", votes, "--method", "mean")
    assert [(each["item"], each["probability"]) for each in found["items"]] == [
        ("0", 1.0), ("1", 0.0), ("2", 1.0), ("3", 0.5), ("4", 1.0),
    ]  # fmt: skip
    assert [each["tied"] for each in found["items"]] == [False, False, False, True, False]
    # kim: 0 apart on three items, and on the last 1 from the mean ¼ of a tie and b
    kim = next(each for each in found["annotators"] if each["annotator"] == "kim")
    assert kim == {"annotator": "kim", "votes": 4, "reliability": pytest.approx(1 - 0.75 / 4)}
    assert next(each for each in found["annotators"] if each["annotator"] == "eve")["reliability"] is None


@pytest.mark.parametrize("method", ["majority", "mean", "dawid-skene", "bradley-terry"])
def test_every_method_says_the_same_of_what_is_clear(
    method: str, votes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "aggregate", votes, "--method", method)
    assert (found["method"], found["form"], found["sides"], found["notes"]) == (method, "long", "assumed", [])
    first, second, third = (each["probability"] for each in found["items"][:3])
    assert second < 0.5 < min(first, third)
    assert [each["votes"] for each in found["annotators"]] == [4, 4, 4, 1]
    extra = {"dawid-skene": {"spam_score"}, "bradley-terry": {"bias"}}.get(method, set())
    assert all(each.keys() == {"annotator", "votes", "reliability"} | extra for each in found["annotators"])
    if method == "bradley-terry":
        assert found["components"] == 5  # no texts: every answer is one of its own
        assert found["tie_width"] > 0


def test_bradley_terry_joins_what_the_texts_join(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """x beats y and y beats z, each three times: with texts x and z are linked and the gaps are alike."""
    pairs = [("x", "y"), ("y", "z")]
    rows = [
        {"item": f"{one}{other}", "prompt": "p", "first": one, "second": other, "annotator": who, "label": "first"}
        for one, other in pairs
        for who in ("kim", "lee", "ann")
    ]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = told(capsys, "aggregate", str(tmp_path / "v.jsonl"), "--method", "bradley-terry")
    assert (found["components"], found["texts"]) == (1, True)
    one, other = (each["probability"] for each in found["items"])
    assert one == pytest.approx(other)
    assert one > 0.5


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_out_holds_the_pairs(suffix: str, votes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / f"pairs{suffix}"
    expected = told(capsys, "aggregate", votes, "--method", "mean", "--out", str(out))["items"]
    if suffix == ".jsonl":
        assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == expected
    else:
        assert pq.read_table(out).to_pylist() == expected
    assert {path.name for path in out.parent.iterdir()} == {out.name}


def test_refusals(votes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "agrement") == (
        "there is no command 'labels agrement' (did you mean 'agreement'?); `keel labels --help` lists them"
    )
    assert refused(capsys, "agreement", "nowhere.csv").startswith("nowhere.csv: no such file or folder")
    assert refused(capsys, "agreement", votes, "--resamples", "0") == "--resamples must be at least 1, found 0"
    assert refused(capsys, "agreement", votes, "--level", "95") == "--level must lie between 0 and 1, found 95"
    assert refused(capsys, "agreement", votes, "--seed", "-1") == "--seed must not be negative, found -1"
    assert refused(capsys, "agreement", votes, "--shared", "0") == "--shared must be at least 1, found 0"
    assert "is no pair of verdict and meaning" in refused(capsys, "agreement", votes, "--values", "first")
    assert "given twice" in refused(capsys, "agreement", votes, "--values", "a=1,a=2")
    assert "invalid choice: 'vote'" in refused(capsys, "aggregate", votes, "--method", "vote")
    assert "let it end in .jsonl or .parquet" in refused(capsys, "aggregate", votes, "--out", "pairs.csv")
    assert "is a folder" in refused(capsys, "aggregate", votes, "--out", str(tmp_path))


def test_names_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("nr,q,x,y,kim,lee\n7,Why?,a,b,l,r\n8,How?,a,b,=,=\n", encoding="utf-8")
    names = "--id nr --prompt q --first x --second y --annotators kim,lee --values l=first,r=3,==tie".split()
    found = told(capsys, "aggregate", str(path), *names, "--method", "mean")
    assert [(each["item"], each["probability"]) for each in found["items"]] == [("7", 0.5), ("8", 0.5)]
    assert found["form"] == "wide"


def test_the_page_of_help_and_of_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["labels", "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("usage: keel labels COMMAND")
    for command in ("agreement", "aggregate"):
        assert f"  {command} " in page
        with pytest.raises(SystemExit) as stopped:
            cli.run(["labels", command, "--help"])
        assert stopped.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: keel labels {command}")


@pytest.mark.skipif(not PANDALM.is_file(), reason="shared/data/pandalm-testset-v1.json is not here")
def test_pandalm_as_published(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "agreement", str(PANDALM))
    assert [round(each["value"], 3) for each in found["cohen_pairs"]] == [0.852, 0.879, 0.862]
    assert (round(found["fleiss"]["value"], 3), round(found["unanimous"]["value"], 3)) == (0.864, 0.880)
    for name in STATISTICS:
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    told_by_ds = told(capsys, "aggregate", str(PANDALM), "--method", "dawid-skene")
    assert len(told_by_ds["items"]) == 999
    assert all(0.9 < each["reliability"] < 1 and math.isfinite(each["spam_score"]) for each in told_by_ds["annotators"])
