"""The page that compares runs: what must be on it, what must not get into it, and the command that writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from keel.commands.report import report
from keel.diagnostics.findings import Finding
from keel.diagnostics.versus.compared import Compared
from keel.diagnostics.versus.page import render, write_comparison
from keel.errors import UserError

from .beside import edit_summary, leave_answers, leave_lineage, leave_lineages, leave_preflight
from .finished import finished_run
from .page import Page
from .test_report import HOSTILE


def several(folder: Path, count: int = 2, **given: object) -> list[Path]:
    found = []
    for place in range(count):
        directory = finished_run(folder / f"run-{place}", updates=12 + place, prompts=12, **given)  # type: ignore[arg-type]
        leave_lineages(directory, ppo=f"policy {place}", answers=f"answers {place}")
        leave_answers(directory, {f"prompt {number}": [float(number % (place + 2))] for number in range(12)})
        found.append(directory)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directories = several(tmp_path_factory.mktemp("runs"))
    leave_preflight(directories[1], "sft", Finding("Duplicates", "amber", "7 come twice.", "Take them out."))
    return directories


@pytest.fixture(scope="module")
def page(both: list[Path]) -> Page:
    return Page(render(Compared.read(both)))


def test_every_section_is_there(page: Page) -> None:
    sections = [
        "short",
        "outcomes",
        "comparable",
        "differences",
        "curves",
        "over-optimised",
        "answers",
        "checks",
        "repeat",
    ]
    assert [one["id"] for one in page.all("section")] == sections
    for words in (
        "2 runs compared",
        "run-0",
        "The recipes differ in rl.updates (A 12, B 13).",
        "On 12 prompts that both were asked",
        "All win rates are over the same 12 prompts.",
        "All win rates are over the same SFT model.",
        "Every other field is the same in all runs.",
        "another in each",
        "gold 2.00",
        "Before SFT: Duplicates–look",
        "What to do: Take them out.",
        "no sign of over-optimisation",
        "A over B",
    ):
        assert words in page.text, words
    for title in ("Reward", "Gold score", "KL", "Length", "Entropy"):
        assert title in page.text, title


def test_links_ids_and_pictures(page: Page) -> None:
    assert len(set(page.ids)) == len(page.ids)
    links = [one["href"] for one in page.all("a")]
    assert all(link.startswith("#") and link[1:] in page.ids for link in links)
    pictures = [one for one in page.all("svg") if "aria-hidden" not in one]
    assert len(pictures) == 8  # six curves, reward and gold against distance
    assert all(name in page.ids for one in pictures for name in one["aria-labelledby"].split())


def test_the_page_is_complete_in_itself(page: Page) -> None:
    loading = ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href")
    loaded = [value for _, attributes in page.elements for name, value in attributes.items() if name in loading]
    assert all(value.startswith("#") for value in loaded)
    assert not re.search(r"url\(|@import|@font-face", page.style)
    assert not (page.all("script"))
    assert not (page.all("link"))
    assert not (page.all("iframe"))
    (policy,) = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_the_numbers_are_those_of_the_summaries(both: list[Path], page: Page) -> None:
    shown = [float(value) for value in page.values]
    for directory in both:
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        numbers = [summary[name] for name in ("win_rate", "gold_ppo", "reward_ppo", "kl", "seconds", "peak_mb", "seed")]
        numbers += [summary["stages"]["evaluation"]["length_ppo"], summary["stages"]["reward"]["accuracy"]]
        assert [number for number in numbers if float(number) not in shown] == []
        assert f"{100 * summary['win_rate_low']:.0f}% to {100 * summary['win_rate_high']:.0f}%" in page.text


def test_eight_runs_on_one_page(tmp_path: Path) -> None:
    page = Page(render(Compared.read(several(tmp_path, 8))))
    assert "28 pairs of runs that answered the same prompts" in page.text
    cells = [
        attributes["class"]
        for tag, attributes in page.elements
        if tag == "span" and "met" in attributes.get("class", "")
    ]
    assert len(cells) == 56
    classes = {name for _, attributes in page.elements for name in attributes.get("class", "").split()}
    assert {f"run-{letter}" for letter in "ABCDEFGH"} <= classes


def test_win_rates_that_must_not_stand_side_by_side(tmp_path: Path) -> None:
    directories = several(tmp_path)
    fair = Page(render(Compared.read(directories)))
    assert "do not set these side by side" not in fair.text
    leave_lineages(directories[1], sft="another")
    assert (
        "Opponent is not the same in all runs: do not set these side by side"
        in Page(render(Compared.read(directories))).text
    )
    leave_answers(directories[1], {"x": [1.0]})
    page = Page(render(Compared.read(directories)))
    assert "Prompts of the evaluation and opponent are not the same in all runs" in page.text
    assert "Not everything here can be compared" in page.text
    assert "answers" not in page.ids


def test_runs_that_have_little_in_common(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "sft", stages=("sft",))
    other = finished_run(tmp_path / "reward", stages=("preferences", "reward"))
    page = Page(render(Compared.read([one, other])))
    assert [part["id"] for part in page.all("section")] == [
        "short",
        "outcomes",
        "comparable",
        "differences",
        "checks",
        "repeat",
    ]
    assert "Two runs that cannot be ranked by their answers" in page.text
    assert "What these runs were made from is not recorded." in page.text


def test_reward_models_are_compared_by_their_intervals(tmp_path: Path) -> None:
    def of(low: float, high: float) -> Path:
        facts = {"reward": {"accuracy_low": low, "accuracy_high": high}}
        return finished_run(tmp_path / f"{low}-{high}", stages=("preferences", "reward"), facts=facts)

    apart = Compared.read([of(0.5, 0.6), of(0.65, 0.8)]).conclusions()
    assert any(words.startswith("The reward model of B is right more often than that of A") for words in apart)
    near = Compared.read([of(0.5, 0.7), of(0.6, 0.8)]).conclusions()
    assert any("by these alone nobody can tell the reward models apart" in words for words in near)


def test_of_one_reward_model_nothing_is_compared(tmp_path: Path) -> None:
    directories = [finished_run(tmp_path / name, updates=10) for name in "ab"]
    leave_lineages(directories[0])
    said = [any("accuracies" in words for words in Compared.read(directories).conclusions())]
    leave_lineages(directories[1])
    said.append(any("accuracies" in words for words in Compared.read(directories).conclusions()))
    assert said == [True, False]  # whether it is one is not known before it is recorded of both


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    (tmp_path / "<img src=x onerror=alert(4)>").mkdir()
    folder = tmp_path / "<img src=x onerror=alert(4)>"
    directories = [finished_run(place / "run", updates=10, prompts=6) for place in (folder, tmp_path / "b")]
    for number, directory in enumerate(directories):
        leave_lineages(directory)
        leave_lineage(directory, "sft", {HOSTILE: (HOSTILE, f"{number}")}, {HOSTILE: f"{number}"})
        leave_answers(directory, {HOSTILE: [float(number)]}, texts={HOSTILE: f"{number} {HOSTILE}"})
        leave_preflight(directory, "ppo", Finding(HOSTILE, "red", HOSTILE, HOSTILE))
        (directory / "resolved.yaml").write_text(json.dumps({HOSTILE: f"{number} {HOSTILE}"}), encoding="utf-8")
    edit_summary(directories[0], versions={HOSTILE: HOSTILE})
    compared = Compared.read(directories)
    page = Page(render(compared))
    clean = Page(render(Compared.read(several(tmp_path / "clean"))))
    assert page.text.count("<script>alert(1)</script>") >= 12
    assert "{{ 7*7 }}" in page.text
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in clean.elements} | {"mark", "ul", "b"}
    assert len(page.all("style")) == 1
    assert (
        len(page.all("title"))
        == len(page.all("svg")) - len([one for one in page.all("svg") if "aria-hidden" in one]) + 1
    )


def test_words_for_the_terminal_cannot_steer_it(tmp_path: Path) -> None:
    directories = [finished_run(tmp_path / f"\x1b[31mred{number}", updates=10) for number in range(2)]
    assert "\x1b" not in str(Compared.read(directories))


def test_the_same_runs_give_the_same_page(both: list[Path]) -> None:
    assert render(Compared.read(both)) == render(Compared.read(both))


def test_the_command_writes_the_page_and_says_what_follows(
    both: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report([str(one) for one in both])
    printed = capsys.readouterr().out
    assert "A = run-0\nB = run-1" in printed
    assert "On 12 prompts that both were asked" in " ".join(printed.split())
    assert printed.endswith("The page is in compare.html\n")
    assert Page((tmp_path / "compare.html").read_text(encoding="utf-8")).all("section")
    report([*(str(one) for one in both), "--out", "pages/two.html", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == "pages/two.html"
    assert (tmp_path / "pages" / "two.html").is_file()
    assert [one["letter"] for one in found["runs"]] == ["A", "B"]
    assert [one["name"] for one in found["runs"]] == ["run-0", "run-1"]
    assert found["settings"] == {"rl.updates": ["12", "13"]}
    assert found["runs"][1]["amber"] == ["Before SFT: Duplicates"]
    (pair,) = found["pairs"]
    # place % 2 against place % 3 over 0 … 11: 0=0 1=1 0<2 1>0 0<1 1<2, twice
    assert (pair["wins"], pair["ties"], pair["losses"], pair["prompts"]) == (2, 4, 6, 12)
    assert pair["win_rate"] == pytest.approx((2 + 4 / 2) / 12)


def test_only_a_page_of_ours_is_replaced(both: list[Path], tmp_path: Path) -> None:
    compared, path = Compared.read(both), tmp_path / "compare.html"
    write_comparison(compared, path)
    path.write_text(path.read_text(encoding="utf-8").replace("run-0", "an older run"), encoding="utf-8")
    write_comparison(compared, path)
    assert "an older run" not in path.read_text(encoding="utf-8")
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine</p>", encoding="utf-8")
    with pytest.raises(UserError, match="is no comparison of runs"):
        write_comparison(compared, mine)
    assert mine.read_text(encoding="utf-8") == "<p>mine</p>"
    with pytest.raises(UserError, match="is a folder; name the file"):
        write_comparison(compared, tmp_path)


def test_mistakes_on_the_command_line(both: list[Path], tmp_path: Path) -> None:
    for argv, sentence in (
        ([str(both[0]), "--out", "x.html"], "--out is for a comparison of several runs"),
        ([str(both[0]), str(both[0])], "is named twice"),
        ([str(both[0]), str(tmp_path / "nowhere")], "there is no folder"),
        ([str(both[0]), str(tmp_path)], "is not the folder of a finished run"),
        ([str(tmp_path / str(place)) for place in range(9)], "from 2 to 8 can be told apart"),
        ([], "required: RUN"),
        ([str(both[0]), str(both[1]), "--jsn"], "did you mean '--json'"),
    ):
        with pytest.raises(UserError, match=sentence):
            report(argv)
