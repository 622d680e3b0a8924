"""Runs against each other: by hand who beats whom, what differs, and what must not be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from keel.diagnostics.versus.answers import SHOWN, shared
from keel.diagnostics.versus.comparable import Note, notes
from keel.diagnostics.versus.compared import Compared, sentence
from keel.diagnostics.versus.differences import between, in_words, inputs, listed, results, settings_apart
from keel.diagnostics.versus.duels import common, duels
from keel.diagnostics.versus.page import headline
from keel.diagnostics.versus.rivals import MOST, Rival, apart, read_rivals
from keel.diagnostics.versus.table import matrix
from keel.diagnostics.winrate import win_rate
from keel.errors import UserError

from .beside import edit_summary, leave_answers, leave_lineages
from .finished import finished_run


def runs(folder: Path, *scores: dict[str, list[float]], **given: Any) -> list[Path]:
    """Runs a, b, … whose policies' answers score so."""
    found = []
    for name, one in zip("abcdefgh", scores, strict=False):
        directory = finished_run(folder / name, updates=12, prompts=6, **given)
        leave_lineages(directory, answers=name)
        leave_answers(directory, one, "reward" if given.get("gold") is False else "gold")
        found.append(directory)
    return found


def rivals(folder: Path, *scores: dict[str, list[float]], **given: Any) -> list[Rival]:
    return read_rivals(runs(folder, *scores, **given))


def recipe(directory: Path, text: str) -> None:
    (directory / "resolved.yaml").write_text(text, encoding="utf-8")


def said(found: Sequence[Note], about: str) -> Note:
    return next(one for one in found if one.about == about)


def test_a_duel_by_hand(tmp_path: Path) -> None:
    # first against second: 3 > 1, 2 = 2, 5 > 4, 0 < 1, and the prompts x and y are not shared: 2 wins, 1 tie, 1 loss
    first = {"p": [3.0], "q": [2.0], "r": [5.0], "s": [0.0], "x": [9.0]}
    second = {"p": [1.0], "q": [2.0], "r": [4.0], "s": [1.0], "y": [9.0]}
    (duel,), unmatched = duels(rivals(tmp_path, first, second))
    assert unmatched == []
    assert (duel.prompts, duel.answers) == (4, 4)
    assert (duel.outcome.wins, duel.outcome.ties, duel.outcome.losses) == (2, 1, 1)
    assert duel.outcome.rate == (2 + 1 / 2) / 4
    assert duel.confidence == pytest.approx(0.95)
    # Wilson, n = 4, p = .625, z² = 3.841459: centre (.625 + .480182)/1.960365 = .563764, reach
    # 1.959964·√(.05859375 + .06002280)/1.960365 = .344335
    assert (duel.outcome.low, duel.outcome.high) == pytest.approx((0.563764 - 0.344335, 0.563764 + 0.344335), abs=2e-5)
    assert duel.verdict == "unclear"


def test_answers_to_one_prompt_count_as_alike(tmp_path: Path) -> None:
    first = {"p": [3.0, 3.0], "q": [3.0, 3.0], "r": [0.0, 0.0]}
    second = {key: [1.0, 1.0] for key in first}
    (duel,), _ = duels(rivals(tmp_path, first, second))
    assert (duel.prompts, duel.answers) == (3, 6)
    once = win_rate([3.0, 3.0, 0.0], [1.0, 1.0, 1.0])
    assert (duel.outcome.low, duel.outcome.high) == pytest.approx((once.low, once.high))


def test_other_numbers_of_answers_meet_in_order(tmp_path: Path) -> None:
    (duel,), _ = duels(rivals(tmp_path, {"p": [3.0, 0.0, 7.0], "q": [1.0]}, {"p": [2.0, 2.0], "q": [1.0, 5.0]}))
    # 3 > 2, 0 < 2, and 1 = 1
    assert (duel.outcome.wins, duel.outcome.ties, duel.outcome.losses) == (1, 1, 1)


def test_three_runs_share_their_confidence(tmp_path: Path) -> None:
    scores = [{f"p{place}": [float(height)] for place in range(40)} for height in (1, 3, 2)]
    compared = Compared.read(runs(tmp_path, *scores))
    assert [one.confidence for one in compared.duels] == pytest.approx([1 - 0.05 / 3] * 3)
    assert [one.verdict for one in compared.duels] == ["second", "second", "first"]
    assert headline(compared) == "B has better answers than A and C"
    words = compared.conclusions()
    assert words[0].startswith("On 40 prompts that both were asked, the answers of B after PPO beat those of A 100% of")
    # all 40 won: Wilson's lower end is n/(n + z²) with z = 2.394 for 98.33 %: 40/45.73 = .875
    assert "(98.33% interval 87% to 100%): B is better by this judge, beyond what chance explains." in words[0]
    assert "so that all 3 hold together" in words[3]
    assert "another seed moves a run" in words[-1]


def test_the_confidence_is_that_of_the_recipes(tmp_path: Path) -> None:
    directories = runs(tmp_path, {"p": [1.0]}, {"p": [2.0]})
    for directory in directories:
        edit_summary(directory, confidence=0.8)
    assert duels(read_rivals(directories))[0][0].confidence == pytest.approx(0.8)
    edit_summary(directories[0], confidence=0.9)
    assert duels(read_rivals(directories))[0][0].confidence == pytest.approx(0.95)


def test_a_draw_is_no_victory_and_the_winner_is_named_first(tmp_path: Path) -> None:
    first = {f"p{place}": [float(place % 3)] for place in range(9)}
    second = {f"p{place}": [1.0] for place in range(9)}
    compared = Compared.read(runs(tmp_path, first, second))
    assert headline(compared) == "The two runs cannot be told apart"
    assert "the interval holds 50%, a draw, so this evaluation does not tell A and B apart" in sentence(
        compared.duels[0]
    )
    worse = Compared.read(runs(tmp_path / "worse", {key: [0.0] for key in first}, second))
    assert sentence(worse.duels[0]).startswith(
        "On 9 prompts that both were asked, the answers of B after PPO beat those of A"
    )
    assert worse.to_json()["pairs"][0]["verdict"] == "second"


def test_four_runs_are_summed_up(tmp_path: Path) -> None:
    scores = [{f"p{place}": [float(height)] for place in range(30)} for height in (1, 3, 1, 1)]
    compared = Compared.read(runs(tmp_path, *scores))
    words = " ".join(compared.conclusions())
    assert "Of 6 pairs of runs that answered the same prompts, 3 can be told apart: B beats A, C and D." in words
    assert "The others not" in words
    assert headline(compared) == "B has better answers than A, C and D"
    table = dict(matrix(compared.rivals, compared.duels))
    assert [None if one is None else (one.text, one.tone) for one in table["A"]] == [
        None,
        ("0%", "run-B"),
        ("50%", ""),
        ("50%", ""),
    ]
    assert [None if one is None else one.text for one in table["B"]] == ["100%", None, "100%", "100%"]
    up, down = table["B"][0], table["A"][1]
    assert up is not None
    assert down is not None
    assert (up.interval, down.interval) == ("81% to 100%", "0% to 19%")  # 30/(30 + 2.638²) = .812


def test_prompts_are_matched_by_id_only_where_the_files_are_the_same(tmp_path: Path) -> None:
    """Conversations of which only the last turn is written down: two of them end with the same words."""
    directories = runs(tmp_path, {"p": [1.0], "go on": [1.0]}, {"p": [2.0], "go on": [2.0]})
    for directory in directories:
        path = directory / "evaluation" / "answers.jsonl"
        last = path.read_text(encoding="utf-8").splitlines()[-1]
        path.write_text(path.read_text(encoding="utf-8") + last.replace("evaluation-1", "evaluation-2") + "\n")
    assert list(common(read_rivals(directories))) == [
        ("evaluation-0", "p"),
        ("evaluation-1", "go on"),
        ("evaluation-2", "go on"),
    ]
    leave_lineages(directories[1], evaluated="other prompts")
    assert list(common(read_rivals(directories))) == [("", "p")]


def test_what_cannot_be_matched_says_why(tmp_path: Path) -> None:
    asked, other = {"p": [1.0], "q": [2.0]}, {"x": [1.0], "y": [2.0]}
    _, (unmatched,) = duels(rivals(tmp_path / "prompts", asked, other))
    assert unmatched.reason == "they were asked other prompts"
    mixed = [*runs(tmp_path / "gold", asked), *runs(tmp_path / "reward", asked, gold=False)]
    assert duels(read_rivals(mixed))[1][0].reason == "their answers were judged by different judges"
    models = runs(tmp_path / "models", asked, asked, gold=False)
    assert duels(read_rivals(models))[1] == []
    leave_lineages(models[1], reward="another reward model")
    assert duels(read_rivals(models))[1][0].reason == "their answers were judged by different judges"
    (models[1] / "evaluation" / "lineage.json").unlink()
    assert "not recorded whether the same reward model" in duels(read_rivals(models))[1][0].reason
    alone = [*runs(tmp_path / "one", asked), finished_run(tmp_path / "bare", stages=("sft", "ppo"))]
    assert duels(read_rivals(alone))[1][0].reason == "B had no evaluation"
    compared = Compared.read(alone)
    assert headline(compared) == "Two runs that cannot be ranked by their answers"
    assert "Answer by answer B cannot be compared with A, because B had no evaluation." in compared.conclusions()


def test_a_reward_model_as_judge_is_warned_of(tmp_path: Path) -> None:
    compared = Compared.read(runs(tmp_path, {"p": [1.0]}, {"p": [2.0]}, gold=False))
    assert any("which need not be better" in words for words in compared.conclusions())
    many = {f"p{place}": [1.0] for place in range(20)}
    clear = Compared.read(runs(tmp_path / "clear", many, {name: [2.0] for name in many}, gold=False))
    assert headline(clear) == "B pleases the reward model more than A"


def test_fields_that_differ(tmp_path: Path) -> None:
    directories = runs(tmp_path, *[{"p": [1.0]}] * 3)
    recipe(directories[0], "seed: 0\ndir: runs/a\nppo:\n  kl: {coef: 0.05}\n  lr: 3.0e-06\n  reward: [{weight: 1.0}]\n")
    recipe(directories[1], "seed: 0\ndir: runs/b\nppo:\n  kl: {coef: 0.05}\n  lr: 3e-6\n  reward: [{weight: 2.0}]\n")
    recipe(
        directories[2],
        "seed: 0\ndir: runs/c\nppo:\n  kl: {coef: 0.1}\n  lr: 0.000003\n  reward: [{weight: 1.0}]\n  new: x\n",
    )
    found = settings_apart(read_rivals(directories))
    assert [(one.name, one.values) for one in found] == [
        ("rl.kl.coef", ("0.05", "0.05", "0.1")),
        ("rl.reward", ("[{weight: 1.0}]", "[{weight: 2.0}]", "[{weight: 1.0}]")),
        ("rl.new", (None, None, "x")),
    ]
    words = Compared.read(directories).difference()
    assert "rl.kl.coef (A 0.05, B 0.05, C 0.1)" in words
    assert "rl.new (A has none, B has none, C x)" in words


def test_the_difference_in_words(tmp_path: Path) -> None:
    directories = runs(tmp_path, {"p": [1.0]}, {"p": [1.0]})
    assert Compared.read(directories).difference() == (
        "The recipes are the same, field by field. They were made from the same data and models."
    )
    recipe(directories[1], "task: town_desk\nseed: 1\nppo:\n  updates: 12\n")
    assert "differ in nothing but the seed" in Compared.read(directories).difference()
    recipe(directories[1], "task: town_desk\nseed: 1\na: 1\nb: 2\nppo:\n  updates: 13\n")
    assert "differ in 4 fields: seed, rl.updates, a and others" in Compared.read(directories).difference()
    leave_lineages(directories[1], demonstrations="others", practised="others", asked="others")
    words = "not the same (or not known to be): demonstrations (SFT) and prompts (preferences, PPO)."
    assert Compared.read(directories).difference().endswith(words)


def test_inputs_and_results_by_fingerprint(tmp_path: Path) -> None:
    directories = runs(tmp_path, *[{"p": [1.0]}] * 3)
    leave_lineages(directories[2], demonstrations="others", sft="another", answers="c")
    found = read_rivals(directories)
    rows = {(one.name, one.stages): one for one in inputs(found)}
    assert list(rows) == [
        ("base model", ("SFT", "evaluation")),
        ("demonstrations", ("SFT",)),
        ("prompts", ("preferences", "PPO", "evaluation")),
    ]
    assert [one.same for one in rows.values()] == [True, False, True]
    assert rows["demonstrations", ("SFT",)].words == "A and B the same, C another"
    made = {one.name: one.words for one in results(found)}
    assert made == {
        "SFT model": "A and B the same, C another",
        "preferences": "the same in all",
        "reward model": "the same in all",
        "policy": "the same in all",
        "answers": "another in each",
    }


def test_runs_that_do_not_say_what_they_were_made_from(tmp_path: Path) -> None:
    directories = runs(tmp_path, {"p": [1.0]}, {"p": [1.0]})
    for stage in ("sft", "preferences", "reward", "ppo", "evaluation"):
        (directories[1] / stage / "lineage.json").unlink()
    found = read_rivals(directories)
    assert {one.words for one in inputs(found)} == {"not recorded in B"}
    assert said(notes(found), "Base model").level == "amber"
    assert said(notes(found), "Opponent").level == "amber"
    assert len(duels(found)[0]) == 1  # the gold score judged, and the prompts are the same in words
    for stage in ("sft", "preferences", "reward", "ppo", "evaluation"):
        (directories[0] / stage / "lineage.json").unlink()
    assert "What the runs were made from is not recorded." in Compared.read(directories).difference()


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        (["x", "x", "x", "x"], "the same in all"),
        (["x", "y", "z", "w"], "another in each"),
        (["x", "x", "y", "x"], "A, B and D the same, C another"),
        (["x", "x", "y", "y"], "A and B the same, C and D the same"),
        (["x", "x", "y", "z"], "A and B the same, C and D others"),
        (["x", "y", "z", None], "another in each of A, B and C, not recorded in D"),
        (["x", None, "x", None], "A and C the same, not recorded in B and D"),
        ([None, None, None, None], "not recorded in A, B, C and D"),
        (["x", None, None, None], "not recorded in B, C and D"),
    ],
)
def test_sameness_in_words(tmp_path_factory: pytest.TempPathFactory, marks: list[str | None], words: str) -> None:
    assert in_words(_four(tmp_path_factory), marks) == words


_FOUR: list[Rival] = []


def _four(factory: pytest.TempPathFactory) -> list[Rival]:
    if not _FOUR:
        _FOUR.extend(rivals(factory.mktemp("four"), *[{"p": [1.0]}] * 4))
    return _FOUR


def test_lists_of_words() -> None:
    assert [listed(words) for words in ("A", "AB", "ABC")] == ["A", "A and B", "A, B and C"]
    assert between([("A", "C"), ("B", "C"), ("A", "D")], "shares no prompt with", "none with") == (
        "C shares no prompt with A and B, D none with A"
    )


def test_runs_alike_can_be_compared(tmp_path: Path) -> None:
    found = notes(rivals(tmp_path, {"p": [1.0], "q": [2.0]}, {"p": [1.0], "q": [3.0]}))
    assert {one.level for one in found} == {"ok"}
    assert said(found, "Prompts of the evaluation").text == "All win rates are over the same 2 prompts."
    assert said(found, "Judge").text == "The judge of all is the task’s gold score."
    assert said(found, "Opponent").text == "All win rates are over the same SFT model."
    assert said(found, "Base model").text == "All started from the same base model."


def test_what_must_not_be_compared_is_said(tmp_path: Path) -> None:
    directories = runs(tmp_path, *[{"p": [1.0], "q": [1.0]}] * 3)
    leave_answers(directories[2], {"x": [1.0]})
    leave_lineages(directories[2], base="another base", sft="another sft", evaluated="x")
    recipe(directories[2], "task: town_desk\nseed: 7\nevaluation:\n  sampling: {temperature: 0.0}\n")
    edit_summary(directories[2], seed=7, versions={"torch": "2.12.0"})
    found = notes(read_rivals(directories))
    levels = {one.about: one.level for one in found}
    assert levels == {
        "Prompts of the evaluation": "red",
        "Opponent": "red",
        "Base model": "red",
        "Sampling": "amber",
        "Seed": "amber",
        "Versions": "amber",
        "Judge": "ok",
    }
    prompts = said(found, "Prompts of the evaluation").text
    assert prompts.startswith("C shares no prompt with A and B: their win rates and scores are over other questions")
    assert "makes its prompts from the seed" in prompts
    assert "(A and B the same, C another): beating a weak one is easy" in said(found, "Opponent").text
    assert "other base models (A and B the same, C another)" in said(found, "Base model").text
    assert said(found, "Seed").text == "The seeds differ (A 0, B 0 and C 7), so part of any difference is luck."
    assert "evaluation.sampling.temperature differs" in said(found, "Sampling").text
    assert [one.level for one in found] == sorted((one.level for one in found), key=["red", "amber", "ok"].index)


def test_other_judges_and_prompts_in_part(tmp_path: Path) -> None:
    mixed = [*runs(tmp_path / "gold", {"p": [1.0]}), *runs(tmp_path / "reward", {"p": [1.0], "q": [1.0]}, gold=False)]
    found = notes(read_rivals(mixed))
    assert said(found, "Judge").text.startswith("The gold score judged A, a reward model judged B")
    part = said(found, "Prompts of the evaluation")
    assert part.level == "amber"
    assert "A was asked 1 prompts and B 2, of which they share 1." in part.text
    models = runs(tmp_path / "models", {"p": [1.0]}, {"p": [1.0]}, gold=False)
    assert said(notes(read_rivals(models)), "Judge").text == "The judge of all is one and the same reward model."
    leave_lineages(models[1], reward="another")
    assert said(notes(read_rivals(models)), "Judge").level == "red"


def test_answers_that_are_farthest_apart_are_shown(tmp_path: Path) -> None:
    first = {f"p{place}": [0.0] for place in range(9)}
    second = {f"p{place}": [float((place * 5) % 9)] for place in range(9)}  # 0 5 1 6 2 7 3 8 4
    found = shared(rivals(tmp_path, first, second))
    assert found is not None
    assert (found.letters, found.prompts, found.judge) == (("A", "B"), 9, "gold")
    assert [one.prompt for one in found.shown] == ["p7", "p5", "p3", "p1", "p8", "p6"]
    assert len(found.shown) == SHOWN
    assert [answer.score for answer in found.shown[0].answers] == [0.0, 8.0]


def test_only_runs_with_prompts_in_common_stand_side_by_side(tmp_path: Path) -> None:
    apart_ = {"x": [1.0], "y": [2.0]}
    same = {"p": [1.0], "q": [2.0]}
    found = shared(rivals(tmp_path, same, apart_, {key: [5.0] for key in same}))
    assert found is not None
    assert found.letters == ("A", "C")
    assert shared(rivals(tmp_path / "none", same, apart_)) is None
    bare = [finished_run(tmp_path / "sft" / name, stages=("sft",)) for name in "ab"]
    assert shared(read_rivals(bare)) is None


def test_without_a_common_judge_the_words_decide(tmp_path: Path) -> None:
    directories = runs(tmp_path, *[{key: [1.0] for key in "pqr"}] * 2, gold=False)
    leave_lineages(directories[1], reward="another")
    leave_answers(
        directories[0], {key: [1.0] for key in "pqr"}, "reward", {"p": "one two", "q": "one two", "r": "one two"}
    )
    leave_answers(
        directories[1], {key: [9.0] for key in "pqr"}, "reward", {"p": "one two", "q": "one six", "r": "five six"}
    )
    found = shared(read_rivals(directories))
    assert found is not None
    assert found.judge is None
    assert [one.prompt for one in found.shown] == ["r", "q"]  # p is the same in both
    assert [answer.score for answer in found.shown[0].answers] == [None, None]


def test_names_are_as_long_as_they_must_be() -> None:
    assert apart([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert apart([Path("/x/one/ppo"), Path("/x/two/ppo"), Path("/x/two/sft")]) == ["one/ppo", "two/ppo", "two/sft"]
    assert apart([Path("/ppo"), Path("/x/ppo")]) == ["/ppo", "x/ppo"]


def test_folders_that_cannot_be_compared(tmp_path: Path) -> None:
    one, other = runs(tmp_path, {"p": [1.0]}, {"p": [1.0]})
    for folders, sentence_ in (
        ([one], "two runs or more"),
        ([one, other, tmp_path / "a" / ".." / "a"], "is named twice"),
        ([one, tmp_path / "nowhere"], "there is no folder"),
        ([one] * (MOST + 1), "from 2 to 8 can be told apart"),
    ):
        with pytest.raises(UserError, match=sentence_):
            read_rivals(folders)
    (other / "summary.json").unlink()
    with pytest.raises(UserError, match="is not the folder of a finished run"):
        read_rivals([one, other])
    recipe(one, "seed: [")
    finished_run(other, prompts=6)
    with pytest.raises(UserError, match=r"a/resolved.yaml:\d: not valid YAML"):
        read_rivals([one, other])
