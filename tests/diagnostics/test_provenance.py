"""What made what, and what was found before step 1: as the stages write it, on the page and where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keel.diagnostics.checks import checks
from keel.diagnostics.findings import Finding
from keel.diagnostics.making import making, short
from keel.diagnostics.provenance import Stale, maker, stale
from keel.diagnostics.recorded import read_run
from keel.diagnostics.report import write_report
from keel.errors import UserError

from .beside import VERSIONS, leave_lineage, leave_lineages, leave_preflight, mark
from .finished import finished_run
from .page import Page
from .test_report import HOSTILE

LOOK = Finding("Duplicates", "amber", "7 of 60 prompts come twice.", "Take them out.")
ALARM = Finding("EOS trained", "red", "No answer ends.", "Give demonstrations that end.")
FINE = Finding("Masks", "ok", "Each of 64 answers has trained tokens.", "")


def page_of(directory: Path) -> Page:
    return Page(write_report(directory).read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = finished_run(tmp_path / "run", updates=12)
    leave_lineages(directory)
    return directory


def test_what_stages_write_is_what_is_read(run: Path) -> None:
    leave_preflight(run, "sft", LOOK, FINE)
    leave_preflight(run, "ppo", ALARM)
    found = read_run(run)
    assert list(found.origins) == ["sft", "preferences", "reward", "ppo", "evaluation"]
    assert found.origins["sft"].inputs["demonstrations"].source == "notes.jsonl"
    assert found.origins["sft"].inputs["demonstrations"].fingerprint == mark("demonstrations")
    assert found.origins["ppo"].outputs == {"model": mark("ppo")}
    assert found.origins["ppo"].versions == VERSIONS
    said = [(one.stage, one.check, one.verdict, one.message, one.remedy) for one in found.prechecks]
    assert said == [
        ("sft", "Duplicates", "amber", "7 of 60 prompts come twice.", "Take them out."),
        ("sft", "Masks", "ok", "Each of 64 answers has trained tokens.", ""),
        ("ppo", "EOS trained", "red", "No answer ends.", "Give demonstrations that end."),
    ]


def test_an_older_run_has_neither(tmp_path: Path) -> None:
    directory = finished_run(tmp_path / "old", updates=12)
    found = read_run(directory)
    assert (dict(found.origins), found.prechecks) == ({}, ())
    page = page_of(directory)
    assert "What made what" not in page.text
    assert "before step 1" not in page.text


def test_only_stages_of_the_run_count(run: Path) -> None:
    directory = finished_run(run, stages=("sft",))
    assert list(read_run(directory).origins) == ["sft"]


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("sft/model", ("sft", "model")),
        ("reward/model", ("reward", "model")),
        ("preferences", ("preferences", "preferences")),
        ("models/base", None),
        ("sft/model/more", None),
        ("", None),
    ],
)
def test_sources_within_the_run(source: str, made: tuple[str, str] | None) -> None:
    assert maker(source) == made


def test_a_stage_that_follows_from_what_is_gone_is_found(run: Path) -> None:
    assert list(stale(read_run(run).origins)) == []
    leave_lineage(run, "sft", {"model": ("tiny", "base")}, {"model": "another sft"})
    found = read_run(run)
    followers = ["preferences", "reward", "ppo", "evaluation"]
    assert list(stale(found.origins)) == [Stale(stage, "sft/model") for stage in followers]
    spoken = [one for one in checks(found) if one.check.startswith("What")]
    assert [one.verdict for one in spoken] == ["amber"] * 4
    assert "sft/model has been made anew since preferences was made from it" in spoken[0].message
    page = page_of(run)
    assert "4 of 27 checks need a look" in page.text
    assert page.text.count("made by SFT, and made anew since") == 4


def test_a_stage_that_is_being_made_is_no_reproach(run: Path) -> None:
    leave_lineage(run, "sft", {"model": ("tiny", "base")}, {})
    assert list(stale(read_run(run).origins)) == []
    assert "not finished" in page_of(run).text


def test_each_stage_with_what_it_read_and_made(run: Path) -> None:
    leave_lineage(run, "ppo", {"model": ("sft/model", "sft")}, {"model": "ppo"}, VERSIONS | {"torch": "2.12.0"})
    steps = {step.stage: step for step in making(read_run(run))}
    assert [(one.name, one.origin) for one in steps["SFT"].inputs] == [
        ("base model", "tiny"),
        ("demonstrations", "notes.jsonl"),
    ]
    assert [(one.name, one.origin) for one in steps["reward model"].inputs] == [
        ("SFT model", "made by SFT"),
        ("preferences", "made by preferences"),
    ]
    assert [one.name for one in steps["evaluation"].outputs] == ["answers"]
    assert steps["SFT"].versions == ()
    assert steps["PPO"].versions == ("torch 2.12.0 (the run ended with 2.13.0)",)
    page = page_of(run)
    prints = {one["title"] for one in page.all("code") if "title" in one}
    assert {mark(content) for content in ("base", "demonstrations", "sft", "reward", "ppo", "answers")} <= prints
    assert mark("base")[:8] in page.text
    assert mark("base")[:9] not in page.text
    assert "by torch 2.12.0 (the run ended with 2.13.0)" in page.text


def test_a_fingerprint_is_cut_and_a_path_is_not() -> None:
    assert short(mark("a")) == mark("a")[:8]
    assert short("no/such/folder/of/a/model") == "no/such/folder/of/a/model"


def test_findings_before_step_1_stand_among_the_others(run: Path) -> None:
    before = page_of(run)
    assert "all 23 checks passed" in before.text
    leave_preflight(run, "sft", LOOK, FINE)
    leave_preflight(run, "ppo", ALARM)
    page = page_of(run)
    assert "2 of 26 checks need a look" in page.text
    for words in (
        "alarmBefore PPO: EOS trained",
        "What to do: Give demonstrations that end.",
        "lookBefore SFT: Duplicates",
        "7 of 60 prompts come twice.",
        "23 checks passed",
        "1 check before step 1 passed",
        "Before SFT: Masks. Each of 64 answers has trained tokens.",
    ):
        assert words in page.text, words
    assert page.text.index("Before PPO: EOS") < page.text.index("Before SFT: Duplicates")


def test_hostile_words_of_both_files_stay_words(run: Path) -> None:
    leave_preflight(run, "sft", Finding(HOSTILE, "red", HOSTILE, HOSTILE), Finding(HOSTILE, "ok", HOSTILE, ""))
    leave_lineage(run, "sft", {HOSTILE: (HOSTILE, "a")}, {HOSTILE: "b"}, {"torch": HOSTILE})
    page = page_of(run)
    assert page.text.count("<script>alert(1)</script>") >= 9
    assert not page.all("script")
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert len(page.all("style")) == 1


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("sft/lineage.json", "{", "sft/lineage.json is damaged"),
        ("sft/lineage.json", "[]", "sft/lineage.json is damaged"),
        ("sft/lineage.json", '{"made": {}}', "sft/lineage.json: 'inputs' is missing"),
        ("sft/lineage.json", '{"made": {"inputs": {"model": "x"}}}', "sft/lineage.json is damaged"),
        ("ppo/preflight.json", '{"findings": 3}', "ppo/preflight.json is damaged"),
        ("ppo/preflight.json", '{"findings": [{"stage": "ppo"}]}', "ppo/preflight.json: 'check' is missing"),
    ],
)
def test_a_damaged_file_is_named(run: Path, file: str, content: str, sentence: str) -> None:
    (run / file).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        write_report(run)


@pytest.mark.parametrize(("field", "said"), [("verdict", "purple"), ("stage", "lunch"), ("verdict", [])])
def test_a_verdict_or_stage_that_there_is_not(run: Path, field: str, said: object) -> None:
    leave_preflight(run, "sft", LOOK)
    path = run / "sft" / "preflight.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["findings"][0][field] = said
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"preflight.json is damaged"):
        write_report(run)


def test_a_file_that_is_a_folder(run: Path) -> None:
    (run / "sft" / "lineage.json").unlink()
    (run / "sft" / "lineage.json").mkdir()
    with pytest.raises(UserError, match=r"lineage.json cannot be read"):
        write_report(run)
