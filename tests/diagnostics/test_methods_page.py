"""Methods over seeds: the arithmetic of the table, its width, and the page that shows it."""

from __future__ import annotations

import json
import math
from dataclasses import astuple, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from keel.config import ONLINE, PRESETS
from keel.diagnostics.bout import Bout, Estimate, Row, Trial, student
from keel.diagnostics.geometry import OVERLAID
from keel.diagnostics.methods_page import columns, headline, render, scatter, write_methods
from keel.trials import NAMES

from .page import Page
from .test_report import HOSTILE


def trial(name: str = "ppo", seed: int = 0, **given: object) -> Trial:
    """Win rate 60 %, gold 2 → 2.5 (0.25 to 0.75 more), KL 9 nats, 40 tokens, 100 seconds, unless another is given."""
    numbers = (0.6, 0.55, 0.65, 2.0, 2.5, 0.25, 0.75, 1.0, 9.0, 40.0, 100.0)
    plain = Trial(name, seed, "gold", *numbers, f"seed-{seed}/{name}")
    return replace(plain, **given)  # type: ignore[arg-type]


def bout(*trials: Trial, titles: dict[str, str] | None = None) -> Bout:
    return Bout(trials, {one.name: (titles or {}).get(one.name, one.name.upper()) for one in trials})


def only(found: Bout) -> Row:
    (row,) = found.rows()
    return row


def many(names: tuple[str, ...], seeds: int) -> Bout:
    """Methods that differ, seeds that differ less."""
    return bout(
        *(
            trial(
                name, seed, win_rate=0.5 + 0.02 * place + 0.01 * seed, gold=2 + place / 10 + seed / 50,
                kl=1.0 + 3 * (place % 7) + seed, length=30.0 + place + seed, seconds=20.0 * (1 + place % 5) + 9 * seed,
            )
            for seed in range(seeds)
            for place, name in enumerate(names)
        ),
        titles={name: preset.title for name, preset in PRESETS.items()},
    )  # fmt: skip


def test_students_interval_by_hand() -> None:
    """1, 2 and 6: mean 3, squares about it 4 + 1 + 9 = 14, over n − 1 that is 7; t of two degrees is 4.303."""
    found = Estimate.of([1.0, 2.0, 6.0])
    assert found.value == pytest.approx(3)
    assert found.high == pytest.approx(3 + 4.303 * math.sqrt(7) / math.sqrt(3))
    assert found.low == pytest.approx(3 - 4.303 * math.sqrt(7 / 3))
    two = Estimate.of([0.5, 0.7])  # deviation 0.1·√2, so that t·s/√n is 12.706·0.1
    assert (two.low, two.high) == (pytest.approx(0.6 - 1.2706), pytest.approx(0.6 + 1.2706))


def test_an_interval_needs_two_seeds_and_a_mean_one() -> None:
    assert Estimate.of([0.7]) == Estimate(0.7, None, None, 1)
    assert Estimate.of([None, 0.7, math.nan, math.inf]) == Estimate(0.7, None, None, 1)
    assert Estimate.of([]) == Estimate.of([None, math.nan]) == Estimate(None, None, None, 0)
    assert astuple(Estimate.of([0.7, 0.7, None])) == pytest.approx((0.7, 0.7, 0.7, 2))
    assert Estimate(0.5, 0.25, None, 3).times(100.0) == Estimate(50.0, 25.0, None, 3)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (9, 2.262), (10, 2.228), (15, 2.131), (20, 2.086), (30, 2.042), (120, 1.980)]
)
def test_students_quantile_is_that_of_the_tables(degrees: int, quantile: float) -> None:
    assert student(degrees) == pytest.approx(quantile, abs=6e-4)


def test_gain_is_gold_less_that_of_the_same_seed() -> None:
    """Gains 1, 1 and 1 of golds that differ: seed by seed nothing is unsure, whatever the golds do."""
    row = only(bout(*(trial(seed=seed, gold_before=seed / 1.0, gold=seed + 1.0) for seed in range(3))))
    assert astuple(row.gain) == pytest.approx((1, 1, 1, 3))
    assert row.gold.value == pytest.approx(2)
    assert row.gold.low == pytest.approx(2 - 4.303 / math.sqrt(3))
    assert only(bout(trial(gold_before=None))).gain == Estimate(None, None, None, 0)
    assert only(bout(trial(gold=None))).gain.value is None


def test_json_has_every_trial_and_every_method() -> None:
    found = bout(trial("ppo", 0), trial("dpo", 0, win_rate=0.8), trial("ppo", 1, win_rate=0.5))
    held = json.loads(json.dumps(found.to_json()))
    assert [(one["name"], one["seed"]) for one in held["trials"]] == [("ppo", 0), ("dpo", 0), ("ppo", 1)]
    assert [(one["name"], one["title"], one["seeds"]) for one in held["methods"]] == [
        ("ppo", "PPO", 2),
        ("dpo", "DPO", 1),
    ]
    assert held["methods"][0]["win_rate"]["value"] == pytest.approx(0.55)
    assert held["methods"][1]["win_rate"] == {"value": 0.8, "low": None, "high": None, "seeds": 1}
    assert held["shared"] == held["failures"] == []
    failed = replace(found, shared=("sft",), failures=("method kto, seed 0: no",)).to_json()
    assert (failed["shared"], failed["failures"]) == (["sft"], ["method kto, seed 0: no"])


def test_the_table_by_hand() -> None:
    """Win rates 50 % and 70 % are 60 ± 12.706·10; gains 0.4 and 0.6 are 0.5 ± 12.706·0.1."""
    ppo = [trial(seed=0, win_rate=0.5, gold=2.4), trial(seed=1, win_rate=0.7, gold=2.6)]
    head, first, second, _, *notes = str(bout(*ppo, trial("dpo", 0, kl=None, gold=1.999, seconds=7.4))).splitlines()
    assert head.split("  ")[0] == "method"
    assert first.split() == "ppo 60.0 ± 127.1 +0.50 ± 1.27 9.0 ± 0.0 40 ± 0 100 ± 0".split()
    assert second.split() == ["dpo", "60.0*", "+0.00*", "–", "40*", "7*"]
    assert " ".join(notes).endswith("Means over 2 seeds, ± half of Student's 95% interval. * Of fewer seeds.")


def test_methods_are_paired_by_seed() -> None:
    """Win rates that differ by .1 and .3 of seeds that differ by more: 20 ± 12.706·10 %, whatever either is alone."""
    ppo = [trial("ppo", seed, win_rate=rate, gold=2 + rate) for seed, rate in enumerate((0.1, 0.6, 0.5))]
    dpo = [trial("dpo", seed, win_rate=rate, gold=2 + 2 * rate) for seed, rate in enumerate((0.2, 0.9))]
    found = bout(*ppo, *dpo, trial("kto", 2, win_rate=0.25, gold=None))
    first, second, third = found.rows()
    assert astuple(second.rate_ahead) == pytest.approx((0.2, 0.2 - 1.2706, 0.2 + 1.2706, 2))
    assert second.gain_ahead.value == pytest.approx((0.4 - 0.1 + 1.8 - 0.6) / 2)
    assert third.rate_ahead == Estimate(-0.25, None, None, 1)
    assert third.gain_ahead.seeds == 0
    assert astuple(first.rate_ahead) == (0, 0, 0, 3)
    told = " ".join(str(found).split())
    assert told.endswith("Win rate less that of ppo, %, paired by seed: dpo +20.0 ± 127.1.")  # one seed tells nothing
    cells = {one.head: one.cells for one in columns(found.rows())}
    assert cells["Win rate less that of PPO"] == (
        ("–", ""), ("+20.0%", "−100.0% to +100.0%, 2 of 3 seeds"), ("−25.0%", "1 of 3 seeds")
    )  # fmt: skip
    assert cells["Gain less that of PPO"][2] == ("–", "")
    assert "paired" not in str(bout(*ppo))
    heads = [one.head for one in columns(bout(*ppo).rows())]
    assert not [head for head in heads if "less that of" in head]


def test_a_number_of_fewer_seeds_says_so() -> None:
    """Of a trial that has it not, and of a method that one seed lacks."""
    found = bout(*(trial("ppo", seed) for seed in range(3)), trial("dpo", 0), trial("dpo", 1, kl=None))
    ppo, dpo = str(found).splitlines()[1:3]
    assert "*" not in ppo
    assert dpo.split()[1:4] == ["60.0", "±", "0.0*"]
    assert dpo.split()[7] == "9.0*"
    held = {one.head: one.cells[1] for one in columns(found.rows())}
    assert held["KL, nats per answer"] == ("9.00", "1 of 3 seeds")
    assert held["Tokens per answer"] == ("40.0", "40.0 to 40.0, 2 of 3 seeds")


def test_one_seed_says_so() -> None:
    """And what its prompts tell of the gain."""
    found = " ".join(str(bout(trial(), trial("dpo", gain_low=-0.1, gain_high=0.2))).split())
    assert "One seed: nothing is known of how far another would differ." in found
    assert found.endswith("in 95% intervals over the prompts: ppo +0.25 to +0.75, dpo -0.10 to +0.20.")
    assert "±" not in found
    assert "intervals" not in str(bout(trial(gain_low=None)))
    page = Page(render(bout(trial())))
    assert "2.00 → 2.500.500.25 to 0.75" in page.text


def test_a_comparison_of_which_nothing_came(tmp_path: Path) -> None:
    """Every trial failed: there is a page, which says so."""
    found = Bout((), {}, failures=("method ppo, seed 0: the disk is <full>",))
    page = Page(render(found))
    assert "the disk is <full>" in page.text
    assert "0 methods, 0 seeds" in page.text
    assert str(found).startswith("method")
    assert "came to nothing" not in Page(render(bout(trial()))).text


@pytest.mark.parametrize(
    ("shared", "sentence"),
    [
        ((), "All methods began with the same model."),
        (("sft",), "All methods began, seed by seed, with the same supervised model."),
        (("preferences",), "All methods began, seed by seed, with the same model and the same preferences."),
        (
            ("sft", "preferences", "reward"),
            "All methods began, seed by seed, with the same supervised model and the same preferences; those that "
            "learn from a reward model, with the same one.",
        ),
    ],
)
def test_no_more_is_said_of_the_beginnings_than_is_true(shared: tuple[Any, ...], sentence: str) -> None:
    assert sentence in Page(render(replace(bout(trial()), shared=shared))).text


@pytest.mark.parametrize("names", [tuple(PRESETS), NAMES])
def test_the_table_fits_a_terminal(names: tuple[str, ...]) -> None:
    lines = str(many(names, 3)).splitlines()
    notes = " ".join(lines[2 + len(names) :])
    assert all(f"{name} +" in notes for name in names[1:])
    assert max(len(line) for line in lines) <= 80
    assert [line.split()[0] for line in lines[1 : 1 + len(names)]] == list(names)
    assert lines[0].split()[-1] == "seconds"
    assert len({len(line) for line in lines[: 1 + len(names)]}) == 1


def test_columns_that_do_not_fit_are_left_out_and_named() -> None:
    huge = [
        trial("reinforce++-baseline", seed, kl=1e9 * seed, length=1e9 * seed, seconds=1e9 * seed) for seed in (1, 2)
    ]
    lines = str(bout(*huge)).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "seconds" not in lines[0]
    assert "gain" in lines[0]
    assert "Not shown, but in methods.json: tokens, seconds." in " ".join(lines)


def test_the_headline_claims_no_more_than_the_intervals() -> None:
    def rows(*rates: tuple[str, tuple[float | None, ...]]) -> list[Row]:
        held = dict(rates)
        seeds = len(rates[0][1])
        return bout(*(trial(name, seed, win_rate=held[name][seed]) for seed in range(seeds) for name in held)).rows()

    apart = rows(("ppo", (0.59, 0.60, 0.61)), ("dpo", (0.79, 0.80, 0.81)))  # ± 4.303·0.01/√3 = 0.025
    assert headline(apart) == "DPO beats SFT more often than any other method here"
    near = rows(("ppo", (0.57, 0.60, 0.63)), ("dpo", (0.60, 0.63, 0.66)))
    assert headline(near) == "DPO is ahead, but not beyond what these seeds can tell apart"
    assert headline(rows(("ppo", (0.9,)), ("dpo", (0.1,)))) == "PPO is ahead with the one seed that was tried"
    assert headline(rows(("ppo", (0.6, 0.8)), ("dpo", (0.6, 0.8)))) == "No method is ahead of all others"
    assert headline(rows(("ppo", (0.9, 0.9)))) == "PPO, alone"
    assert headline(rows(("ppo", (None,)), ("dpo", (None,)))) == "Methods that no evaluation has judged"
    mixed = rows(("ppo", (0.89, 0.90, 0.91)), ("dpo", (0.2, None, None)))  # of which no interval is known
    assert headline(mixed) == "PPO is ahead, but not beyond what these seeds can tell apart"
    worse = rows(("ppo", (0.30, 0.31, 0.32)), ("dpo", (0.39, 0.40, 0.41)))
    assert headline(worse) == headline(worse[:1]) == "No method here beats SFT"
    unsure = rows(("ppo", (0.30, 0.31, 0.32)), ("dpo", (0.40, 0.48, 0.50)))  # whose interval holds a draw
    assert headline(unsure) == "DPO is ahead, but not beyond what these seeds can tell apart"


def test_an_interval_ends_where_the_number_cannot_be() -> None:
    held = {one.head: one.cells[0] for one in columns(bout(trial(seed=0, win_rate=0.9, kl=1.0), trial(seed=1)).rows())}
    assert held["Win rate over SFT"] == ("75%", "0% to 100%")  # ± 12.706·0.15
    assert held["KL, nats per answer"] == ("5.00", "0 to 55.8")  # ± 12.706·4
    assert held["Gold less SFT’s"] == ("+0.50", "+0.50 to +0.50")
    (cell,) = columns([only(bout(trial(kl=-0.25), trial(seed=1, kl=-0.75)))])[2].cells
    assert cell == ("−0.50", "−3.68 to 2.68")  # an estimate below 0 is shown as it is: −0.5 ± 12.706·0.25


def test_what_was_not_measured_is_no_column_and_no_picture() -> None:
    heads = [one.head for one in columns(bout(trial(gold=None, length=None), trial("dpo")).rows())]
    assert heads == [
        "Win rate over SFT",
        "Gold less SFT’s",
        "KL, nats per answer",
        "Tokens per answer",
        "Seconds of training",
    ]
    bare = bout(
        trial(
            win_rate=None,
            win_rate_low=None,
            win_rate_high=None,
            gold=None,
            gold_before=None,
            kl=None,
            length=None,
            judge=None,
        )
    )
    assert [one.head for one in columns(bare.rows())] == ["Win rate over SFT", "Seconds of training"]
    page = Page(render(bare))
    assert [one["id"] for one in page.all("section")] == ["table", "trials"]
    assert "–" in page.text
    assert "Answers are judged" not in page.text


def test_the_judge_is_named() -> None:
    assert "the task’s hidden gold score" in Page(render(bout(trial()))).text
    partial = Page(
        render(bout(trial(judge="reward", gold=None, gold_before=None), trial("dpo", judge="reward", gold=None)))
    )
    assert "may have been trained to please it" in partial.text
    assert "hidden gold score" not in partial.text
    assert "Gold" not in partial.text
    assert "Win rate over SFT against the distance from SFT" in partial.text


def test_every_method_and_every_trial_is_on_the_page() -> None:
    found = many(("ppo", "grpo", "dpo"), 2)
    page = Page(render(found))
    assert [one["id"] for one in page.all("section")] == ["table", "pictures", "trials"]
    assert "3 methods, 2 seeds" in page.text
    for one in found.trials:
        assert one.directory in page.text
    for row in found.rows():
        assert row.win_rate.value is not None
        assert f"{100 * row.win_rate.value:.1f}% (" in page.text  # the bars
        assert page.text.count(row.title) >= 3  # and table and legend
    assert "practise against a reward learn straight from preferences" in page.text
    assert "learn straight" not in Page(render(many(("ppo", "grpo"), 2))).text  # where all are of one kind
    assert len(set(page.ids)) == len(page.ids)
    links = [one["href"] for one in page.all("a")]
    assert all(link.startswith("#") and link[1:] in page.ids for link in links)


def test_bars_stand_in_the_order_of_their_win_rates() -> None:
    page = Page(render(bout(trial("ppo", win_rate=0.3), trial("dpo", win_rate=0.7), trial("kto", win_rate=0.5))))
    bars = page.text.partition("In numbers")[0]
    assert bars.index("70.0%") < bars.index("50.0%") < bars.index("30.0%")


def test_a_picture_by_hand() -> None:
    """Means at √KL 3 and 2, gold 2.5 and 3; SFT at 2 is a rule."""
    found = bout(
        trial("ppo", 0, kl=4.0, gold=2.25), trial("ppo", 1, kl=16.0, gold=2.75), trial("dpo", 0, kl=4.0, gold=3.0)
    )
    chart = scatter(found, "Gold", "x", "y", lambda one: math.sqrt(one.kl or 0), lambda one: one.gold, 2.0, "SFT")
    assert chart is not None
    assert chart.description == "PPO at 3.00: 2.50; DPO at 2.00: 3.00"
    ppo, dpo = chart.badges
    assert [(one.letter, one.tone) for one in chart.badges] == [("A", "sea"), ("B", "gold")]
    right, left = chart.dots[1].x, chart.dots[0].x  # at 4 and 2
    assert ppo.home[0] == pytest.approx((left + right) / 2, abs=0.02)
    assert dpo.home == (chart.dots[2].x, chart.dots[2].y)
    assert right - OVERLAID.left == pytest.approx(2 * (left - OVERLAID.left), abs=0.02)  # √KL begins at 0
    (rule,) = chart.rules
    gaps = [rule.y - dot.y for dot in chart.dots]  # gold 0.25, 0.75 and 1 above SFT
    assert gaps == [pytest.approx(share * gaps[2], abs=0.02) for share in (0.25, 0.75, 1)]
    assert scatter(found, "Gold", "x", "y", lambda one: None, lambda one: one.gold, 2.0, "SFT") is None
    unmeasured = bout(trial(kl=math.inf), trial("dpo"))
    chart = scatter(unmeasured, "Gold", "x", "y", lambda one: one.kl, lambda one: one.gold, 2.0, "SFT")
    assert chart is not None
    assert [one.letter for one in chart.badges] == ["B"]  # its letter is that of the table


def test_the_pictures_of_the_page_by_hand() -> None:
    """√9 nats and 100 seconds for half a point of gold; one that gains nothing lies on the rule of SFT."""
    page = Page(render(bout(trial("ppo"), trial("dpo", gold=2.0))))
    assert "PPO at 3.00: 0.50; DPO at 3.00: 0" in page.text
    assert "PPO at 100: 0.50; DPO at 100: 0" in page.text
    rules = [one["d"].partition(",")[2].partition("H")[0] for one in page.all("path") if one.get("class") == "rule"]
    level = [one["cy"] for one in page.all("circle") if one["class"] == "dot gold"]
    assert rules == level
    assert len(rules) == 2


@pytest.mark.parametrize("crowded", [False, True])
def test_letters_do_not_touch(crowded: bool) -> None:
    found = many(NAMES, 3)
    if crowded:  # all of them at one place
        found = bout(*(trial(name, seed) for seed in range(3) for name in NAMES))
    chart = scatter(found, "Gold", "x", "y", lambda one: one.kl, lambda one: one.gold, 2.0, "SFT")
    assert chart is not None
    assert len(chart.badges) == len(NAMES) == 19
    places = [(one.x, one.y) for one in chart.badges]
    assert all(math.dist(one, other) >= 2 * 10 for one, other in combinations(places, 2))  # a disc's radius on a phone
    assert all(10 <= x <= OVERLAID.width - 10 and 10 <= y <= OVERLAID.y_end - 10 for x, y in places)


def test_the_kinds_of_methods_have_colours_of_their_own() -> None:
    page = Page(render(many(("grpo", "kto"), 1)))
    badges = [one["class"] for one in page.all("span") if one.get("class", "").startswith("badge")]
    assert badges == ["badge sea", "badge gold"] * 2
    assert "grpo" in ONLINE


def test_the_page_is_complete_in_itself() -> None:
    page = Page(render(many(NAMES, 3)))
    loading = ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href")
    loaded = [value for _, attributes in page.elements for name, value in attributes.items() if name in loading]
    assert loaded
    assert all(value.startswith("#") for value in loaded)
    assert not page.all("script")
    assert not page.all("link")
    (policy,) = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_hostile_words_stay_words() -> None:
    """Titles and folders come from files."""
    one = trial("ppo", directory=HOSTILE)
    page = Page(render(Bout((one, trial("dpo")), {"ppo": HOSTILE, "dpo": "DPO"})))
    clean = Page(render(bout(trial("ppo"), trial("dpo"))))
    assert page.text.count("<script>alert(1)</script>") >= 4
    assert "{{ 7*7 }}" in page.text
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in clean.elements}
    assert len(page.all("style")) == 1


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "methods.html"
    write_methods(bout(trial()), path)
    assert path.read_text(encoding="utf-8") == render(bout(trial()))
    assert [one.name for one in path.parent.iterdir()] == ["methods.html"]
