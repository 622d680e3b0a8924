"""Recipes: what is read, what is refused and with which words, and that every way in gives the same tree."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import keel.config
from keel.config import (
    EMBEDDED,
    OFFLINE,
    ONLINE,
    KLPenalty,
    Online,
    Optimizer,
    Recipe,
    RewardTerm,
    Sft,
    dump_recipe,
    load_recipe,
)
from keel.config.cautions import cautions
from keel.config.load import build, nearest
from keel.config.section import Section, description, inner_section, leaves
from keel.config.source import Source, described, inline, parse, scalar
from keel.errors import UserError

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def loaded(tmp_path: Path, text: str, **overrides: Any) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


def complaint(tmp_path: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        loaded(tmp_path, text)
    said = str(caught.value).replace(str(tmp_path) + "/", "")
    assert "\n" not in said
    return said


def sections(kind: type[Section]) -> Iterator[type[Section]]:
    yield kind
    for field in kind.model_fields.values():
        if inner := inner_section(field):
            yield from sections(inner)


# What ships


def test_recipes_are_there() -> None:
    assert {"pandalm.yaml", "smoke.yaml", "town_desk.yaml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_that_ships_is_read_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert loaded(tmp_path, dump_recipe(recipe)) == recipe
    assert recipe != Recipe()


@pytest.mark.parametrize("kind", [*sections(Recipe), RewardTerm], ids=lambda kind: kind.__name__)
def test_every_field_and_section_is_described(kind: type[Section]) -> None:
    assert (kind.__doc__ or "").strip().endswith(".")
    for name, field in kind.model_fields.items():
        assert description(field).endswith("."), f"{kind.__name__}.{name}"
        assert len(description(field)) > 10, f"{kind.__name__}.{name}"


def test_every_public_name_is_exported() -> None:
    assert all(hasattr(keel.config, name) for name in keel.config.__all__)
    assert {kind.__name__ for kind in sections(Recipe)} <= set(keel.config.__all__)


# Defaults


@pytest.mark.parametrize(
    ("dotted", "value"),
    [  # algorithms.md, table of PPO settings, and the paragraphs on the reward model and adaptive KL
        ("rl.kl.coef", 0.05),
        ("rl.kl.target", 6.0),
        ("rl.kl.horizon", 10_000),
        ("rl.gamma", 1.0),
        ("rl.lam", 0.95),
        ("rl.clip", 0.2),
        ("rl.value_clip", 0.2),
        ("rl.value_coef", 0.1),
        ("rl.epochs", 4),
        ("rl.batch_size", 512),
        ("rl.sampling.temperature", 0.7),
        ("rl.missing_eos_score", -1.0),
        ("rl.optimizer.lr", 3e-6),
        ("rl.optimizer.eps", 1e-5),
        ("rl.critic.init", "reward"),
        ("sft.optimizer.lr", 3e-6),
        ("sft.batch_size", 128),
        ("reward.optimizer.lr", 9e-6),
        ("reward.batch_size", 64),
        ("reward.centring", 0.01),
    ],
)
def test_defaults_are_those_of_the_papers(dotted: str, value: object) -> None:
    found: Any = Recipe()
    for name in dotted.split("."):
        found = getattr(found, name)
    assert found == value


def test_a_section_given_in_part_keeps_the_defaults_of_its_place(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "reward: {optimizer: {schedule: cosine}}\nppo: {sampling: {top_p: 0.9}}\n")
    assert recipe.reward.optimizer == Optimizer(lr=9e-6, schedule="cosine")
    assert recipe.rl.sampling.temperature == 0.7  # Sampling's own default is 1
    assert recipe.rl.sampling.top_p == 0.9
    assert recipe.sft == Recipe().sft
    assert recipe == Recipe.model_validate(
        {"reward": {"optimizer": {"schedule": "cosine"}}, "rl": {"sampling": {"top_p": 0.9}}}
    )


def test_a_section_with_nothing_left_in_it_is_its_default(tmp_path: Path) -> None:
    assert loaded(tmp_path, "ppo:\n  # kl: {coef: 1}\nsft:\n  optimizer:\nseed: 3\n") == Recipe(seed=3)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().rl.kl.coef = 1.0  # type: ignore[misc]


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("3E+2", 300.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2", -2),
        ("010", 10),
        ("true", True),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("none", "none"),
        ("~", None),
        ("", None),
        ("-.inf", -math.inf),
        ("0x10", "0x10"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_a_learning_rate_without_a_dot_is_a_number(tmp_path: Path) -> None:
    assert loaded(tmp_path, "sft: {optimizer: {lr: 1e-5}}\n").sft.optimizer.lr == 1e-5
    assert loaded(tmp_path, "ppo:\n  clip: 1\n").rl.clip == 1.0  # a whole number will do for a fraction


def test_lists_and_list_entries(tmp_path: Path) -> None:
    recipe = loaded(
        tmp_path,
        "ppo:\n  reward:\n    - {path: runs/a/reward/model, weight: 0.5}\n"
        '    - {kind: function, path: "rewards.py:brevity"}\n  optimizer: {betas: [0.9, 0.95]}\n',
    )
    assert recipe.rl.reward == (
        RewardTerm(path="runs/a/reward/model", weight=0.5),
        RewardTerm(kind="function", path="rewards.py:brevity"),
    )
    assert recipe.rl.optimizer.betas == (0.9, 0.95)


def test_anchors_may_be_used(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "sft: {optimizer: &o {lr: 1e-4}}\nreward: {optimizer: *o}\n")
    assert recipe.sft.optimizer.lr == recipe.reward.optimizer.lr == 1e-4


# Overrides


def test_overrides_replace_what_the_file_says_and_leave_its_neighbours(tmp_path: Path) -> None:
    recipe = loaded(
        tmp_path, "ppo: {kl: {coef: 0.1, target: 3}}\n", **{"rl.kl.coef": 0.02, "sft.columns.prompt": "question"}
    )
    assert recipe.rl.kl == KLPenalty(coef=0.02, target=3.0)
    assert recipe.sft.columns == {"prompt": "question"}


def test_overrides_alone_are_a_recipe_too() -> None:
    assert load_recipe(overrides={"sft.epochs": 3}) == Recipe(sft=Sft(epochs=3))


def test_an_override_may_open_a_section_that_the_file_closed(tmp_path: Path) -> None:
    assert loaded(tmp_path, "ppo:\n", **{"rl.kl.coef": 0.5}).rl.kl.coef == 0.5


def test_an_override_that_is_wrong_is_named() -> None:
    with pytest.raises(UserError, match=r"^override rl\.kl\.coef: rl\.kl\.coef must be at least 0, found -1"):
        load_recipe(overrides={"rl.kl.coef": -1})


# Refusals


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "seed: 1\nppo:\n  kl:\n    coeff: 0.1\n",
            "recipe.yaml:4: unknown key rl.kl.coeff; did you mean rl.kl.coef?",
        ),
        ("sfft: {}\n", "recipe.yaml:1: unknown key sfft; did you mean sft?"),
        ("sft:\n  lr: 1e-5\n", "recipe.yaml:2: unknown key sft.lr; did you mean sft.optimizer.lr?"),
        ("ppo:\n  beta: 0.1\n", "recipe.yaml:2: unknown key rl.beta; did you mean rl.kl.coef?"),
        (
            "reward:\n  learning_rate: 0.1\n",
            "recipe.yaml:2: unknown key reward.learning_rate; did you mean reward.optimizer.lr?",
        ),
        (
            "ppo: {reward: [{wieght: 2}]}\n",
            "recipe.yaml:1: unknown key rl.reward.0.wieght; did you mean rl.reward.0.weight?",
        ),
        ("qqqq: 1\n", "recipe.yaml:1: unknown key qqqq; `keel init DIR` writes a recipe with every key in it"),
        ("\n\nsft:\n  epochs: three\n", 'recipe.yaml:4: sft.epochs must be a whole number, found "three" (text)'),
        ("sft: {epochs: 1.5}\n", "recipe.yaml:1: sft.epochs must be a whole number, found 1.5 (a number)"),
        ("sft: {epochs: true}\n", "recipe.yaml:1: sft.epochs must be a whole number, found true (a yes/no)"),
        ('ppo: {clip: "0.2"}\n', 'recipe.yaml:1: rl.clip must be a number, found "0.2" (text)'),
        ("ppo: {clip: .inf}\n", "recipe.yaml:1: rl.clip must be a finite number, found inf (a number)"),
        ("ppo: {clip: .nan}\n", "recipe.yaml:1: rl.clip must be a finite number, found nan (a number)"),
        ("model: {path: 7}\n", "recipe.yaml:1: model.path must be text, found 7 (a whole number)"),
        ("sft: {epochs: null}\n", "recipe.yaml:1: sft.epochs must be a whole number, found nothing (null)"),
        ("sft: 3\n", "recipe.yaml:1: sft must be a section of `key: value` lines, found 3 (a whole number)"),
        (
            "sft: {columns: [a]}\n",
            "recipe.yaml:1: sft.columns must be a mapping such as {prompt: question}, found a list of 1",
        ),
        (
            "ppo: {sampling: {stop: x}}\n",
            'recipe.yaml:1: rl.sampling.stop must be a list such as [a, b], found "x" (text)',
        ),
        (
            "device: tpu\n",
            'recipe.yaml:1: device must be one of auto, cpu, cuda or mps, found "tpu" (text)',
        ),
        ("ppo:\n  gamma: 2\n", "recipe.yaml:2: rl.gamma must be at most 1, found 2 (a whole number)"),
        ("sft: {held_out: 1}\n", "recipe.yaml:1: sft.held_out must be less than 1, found 1 (a whole number)"),
        ("sft: {epochs: 0}\n", "recipe.yaml:1: sft.epochs must be at least 1, found 0 (a whole number)"),
        (
            "sft: {optimizer: {lr: 0}}\n",
            "recipe.yaml:1: sft.optimizer.lr must be more than 0, found 0 (a whole number)",
        ),
        ("ppo: {reward: []}\n", "recipe.yaml:1: rl.reward must be a list of at least 1, found a list of 0"),
        (
            "sft: {optimizer: {betas: [0.9]}}\n",
            "recipe.yaml:1: sft.optimizer.betas must be a list of at least 2, found a list of 1",
        ),
        (
            "sft: {optimizer: {betas: [0.9, 0.9, 0.9]}}\n",
            "recipe.yaml:1: sft.optimizer.betas must be a list of at most 2, found a list of 3",
        ),
        (
            "sft: {epochs: 0, log_every: 0}\n",
            "recipe.yaml:1: sft.epochs must be at least 1, found 0 (a whole number) (1 more like this)",
        ),
        # fields that must fit each other
        (
            "model:\n  layout: shared\n",
            "recipe.yaml:2: model.layout: shared puts adapters on one frozen base and needs model.tuning: lora, "
            'found "shared" (text)',
        ),
        (
            "preferences:\n  votes: 9\n",
            "recipe.yaml:2: preferences.votes cannot exceed preferences.annotators, found 9 (a whole number)",
        ),
        (
            "preferences:\n  spammers: 9\n",
            "recipe.yaml:2: preferences.spammers cannot exceed preferences.annotators, found 9 (a whole number)",
        ),
        (
            "task: null\nevaluation:\n  judge: gold\n",
            "recipe.yaml:3: evaluation.judge: gold is a score of the built-in tasks; use reward where task is null, "
            'found "gold" (text)',
        ),
        (
            "reward: {data: a}\npreferences: {labels: {data: b}}\n",
            "recipe.yaml:1: reward.data and preferences.labels.data are both given; keep the one to learn from, "
            'found "a" (text)',
        ),
        (
            "ppo:\n  reward:\n  - kind: function\n",
            "recipe.yaml:3: rl.reward.0.path must name a function, as in rewards.py:brevity, found nothing (null)",
        ),
        (
            "ppo:\n  critic:\n    body: policy\n",
            "recipe.yaml:2: rl.critic.init: no reward model was trained on the policy's own states; "
            'critic.body: policy needs init: zero, found "reward" (text)',
        ),
        (
            "ppo:\n  batch_size: 5\n  samples_per_prompt: 2\n",
            "recipe.yaml:3: rl.samples_per_prompt must divide batch_size, found 2 (a whole number)",
        ),
        (
            "ppo:\n  batch_size: 4\n  minibatches: 3\n  samples_per_prompt: 2\n",
            "recipe.yaml:3: rl.minibatches must leave each minibatch a prompt "
            "(batch_size / samples_per_prompt of them), found 3 (a whole number)",
        ),
        # settings that nothing would read
        (
            "ppo: {reward: [{penalty: 0.5}]}\n",
            "recipe.yaml:1: rl.reward.0.penalty changes nothing with aggregate: mean, but only with uncertainty; leave "
            "it out or choose that, found 0.5 (a number)",
        ),
        (
            "ppo: {reward: [{kind: function, path: a.py:b, aggregate: worst}]}\n",
            "recipe.yaml:1: rl.reward.0.aggregate brings the scores of reward models together, and a function gives "
            'one; leave it out, found "worst" (text)',
        ),
        (
            "ppo: {reward: [{kind: function, path: a.py:b, penalty: 0.4}]}\n",
            "recipe.yaml:1: rl.reward.0.penalty changes nothing with aggregate: mean, but only with uncertainty; leave "
            "it out or choose that, found 0.4 (a number)",
        ),
        *(
            (
                f"reward: {reward}\nppo: {{reward: [{{path: there}}, {{aggregate: worst}}]}}\n",
                "recipe.yaml:2: rl.reward: aggregate brings several reward models together, and this run keeps one; "
                "set reward.members to 3 or more (with reward.combine: scores), or leave aggregate out, found "
                '"worst" (text)',
            )
            for reward in ("{members: 1}", "{members: 3, combine: weights}")
        ),
        (
            "preferences: {select: bald}\n",
            "recipe.yaml:1: preferences.select: there is a choice only where not every pair is judged; set "
            'preferences.budget, or use random, found "bald" (text)',
        ),
        (
            "preferences: {select: bald, budget: 9, judges: people, people: {ranked: true}}\n",
            "recipe.yaml:1: preferences.select: it chooses pairs, and people rank all answers to a prompt "
            '(preferences.people.ranked); use random, found "bald" (text)',
        ),
        (
            "preferences: {budget: 9, scorer: there}\n",
            "recipe.yaml:1: preferences.scorer is not read where preferences.select is random; leave it out or choose "
            'another way to select, found "there" (text)',
        ),
        (
            "preferences: {budget: 9, random_share: 0.5}\n",
            "recipe.yaml:1: preferences.random_share changes nothing where preferences.select is random; leave it out "
            "or choose another way to select, found 0.5 (a number)",
        ),
        (
            "reward: {loss: plackett-luce}\npreferences: {aggregate: mean, ties: drop}\n",
            "recipe.yaml:2: preferences.aggregate: reward.loss: plackett-luce reads who comes before whom, and only "
            "majority says that for certain; use majority (with preferences.ties: drop), or reward.loss: pairs, found "
            '"mean" (text)',
        ),
        (
            "reward: {loss: plackett-luce}\ntask: null\npreferences: {judges: people, prompts: there}\n",
            "recipe.yaml:3: preferences.ties: reward.loss: plackett-luce has no place for a tie; use drop, or "
            'reward.loss: pairs, found "keep" (text)',
        ),
        # YAML itself
        ("", "recipe.yaml: the recipe is empty; `keel init DIR` writes one to start from"),
        ("# nothing\n", "recipe.yaml: the recipe is empty; `keel init DIR` writes one to start from"),
        ("- a\n", "recipe.yaml:1: a recipe is made of `key: value` lines, found a list of 1"),
        ("seed: 1\nseed: 2\n", "recipe.yaml:2: seed is given twice; keep one of them"),
        ("sft:\n  data: [a\nseed: 1\n", "recipe.yaml:3: not valid YAML: expected ',' or ']', but got ':'"),
        ("sft: *nowhere\n", "recipe.yaml:1: not valid YAML: found undefined alias 'nowhere'"),
        ("[a]: 1\n", "recipe.yaml:1: a key must be plain text"),
        ("sft: &a {x: *a}\n", "recipe.yaml:1: aliases that contain themselves or grow without end are not a recipe"),
        (
            "sft: {data: !!python/name:os.system x}\n",
            "recipe.yaml:1: a recipe has no tags, found tag:yaml.org,2002:python/name:os.system",
        ),
        ("[" * 2000, "recipe.yaml: nested too deeply for a recipe"),
        ("sft: " + "[" * 30 + "]" * 30, "recipe.yaml:1: nested too deeply for a recipe"),
        (
            'sft: {data: "\\U00110000"}\n',
            "recipe.yaml: not valid YAML: an escape or a version in it is out of range "
            "(chr() arg not in range(0x110000))",
        ),
        ('sft: {data: "a\\0b"}\n', "recipe.yaml:1: sft.data holds \\x00, which no text may; leave it out"),
        ('dir: "\\ud83d"\n', "recipe.yaml:1: dir holds \\ud83d, which no text may; leave it out"),
        (
            'sft: {columns: {"\\ud83d": a}}\n',
            "recipe.yaml:1: sft.columns.\\ud83d holds \\ud83d, which no text may; leave it out",
        ),
        # what would be the folder one is in, or end in the libraries below
        ('sft: {data: ""}\n', 'recipe.yaml:1: sft.data must be text that is not empty, found "" (text)'),
        ('model: {path: ""}\n', 'recipe.yaml:1: model.path must be text that is not empty, found "" (text)'),
        ("threads: 99999\n", "recipe.yaml:1: threads must be at most 4096, found 99999 (a whole number)"),
        (
            "sft: {epochs: 9223372036854775808}\n",
            "recipe.yaml:1: sft.epochs must be less than 9.22337e+18, found 9223372036854775808 (a whole number)",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_with_its_place(text: str, sentence: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, text) == sentence


@pytest.mark.parametrize(
    "text",
    [
        "reward: {members: 3}\nppo: {reward: [{aggregate: uncertainty, penalty: 0.5}]}\n",
        "ppo: {reward: [{path: there, aggregate: worst}]}\n",
        "preferences: {select: bald, budget: 9, random_share: 0.5, scorer: there}\n",
        "preferences: {budget: 9, judges: people, people: {ranked: true}}\n",
        "reward: {loss: plackett-luce}\npreferences: {ties: drop}\n",
        "task: null\nreward: {loss: plackett-luce, data: there}\n",
        "task: null\nreward: {loss: plackett-luce}\npreferences: {labels: {data: there}, aggregate: mean}\n",
    ],
)
def test_settings_that_something_reads_are_accepted(text: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, text) != Recipe()


def test_a_list_of_lists_of_lists_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    began = time.perf_counter()
    assert "grow without end" in complaint(tmp_path, "\n".join(lines))
    assert time.perf_counter() - began < 20


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no recipe .*nope\.yaml; `keel init DIR` writes one"):
        load_recipe(tmp_path / "nope.yaml")
    with pytest.raises(UserError, match="cannot read the recipe"):
        load_recipe(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        load_recipe(tmp_path / "binary.yaml")


def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(UserError, match=r"cannot read the recipe a\\x00b: embedded null byte"):
        load_recipe("a\0b")
    with pytest.raises(UserError, match=r"cannot read the recipe a{59}…: File name too long"):
        load_recipe("a" * 5000)


def test_one_value_is_one_value() -> None:
    assert inline("[1, 2]", "--x") == [1, 2]
    with pytest.raises(UserError, match="--x: one value was asked for, found more"):
        inline("[1]\nseed: 7", "--x")


def said_of(source: Source | str) -> str:
    """What is said of a recipe; "" where there is nothing to say. Anything but a UserError goes through."""
    try:
        build(parse(source, "recipe.yaml") if isinstance(source, str) else source, Recipe)
    except UserError as error:
        return str(error)
    return ""


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_makes_a_traceback(text: str) -> None:
    assert "\n" not in said_of(text)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*Recipe.model_fields, *Online.model_fields, "kind", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(trees)
def test_no_tree_makes_a_traceback(tree: object) -> None:
    said = said_of(Source(tree if isinstance(tree, dict) else {"ppo": tree}))
    assert not said or any(words in said for words in (" must ", "unknown key", "cannot", "which no text may"))


# Names


@pytest.mark.parametrize("dotted", [name for name, _ in leaves(Recipe)])
def test_a_slip_in_any_name_is_mended(dotted: str) -> None:
    section, dot, last = dotted.rpartition(".")
    slipped = f"{section}{dot}{last[:-1]}{last[-1]}{last[-1]}x" if len(last) > 3 else f"{section}{dot}{last}_"
    assert nearest(slipped) == dotted


def test_a_right_name_in_the_wrong_place_is_found_in_the_nearest_right_one() -> None:
    assert nearest("temperature") is not None
    assert nearest("ppo.temperature") == "rl.sampling.temperature"
    assert nearest("preferences.sampling.coef") == "rl.kl.coef"
    assert nearest("reward.weight_decay") == "reward.optimizer.weight_decay"
    assert nearest("zzzzzzz") is None


# Writing


def test_the_commented_recipe_says_what_every_key_means() -> None:
    text = dump_recipe(Recipe())
    comments = " ".join(line.strip().removeprefix("# ") for line in text.splitlines() if line.lstrip().startswith("#"))
    for name, field in leaves(Recipe):
        assert f"{name.rpartition('.')[2]}:" in text
        assert description(field) in comments, name
    assert max(map(len, text.splitlines())) <= 120


def test_without_comments_there_are_none() -> None:
    assert "#" not in dump_recipe(Recipe(), commented=False)


def test_other_yaml_readers_see_the_same_values() -> None:
    plain = yaml.safe_load(dump_recipe(Recipe()))
    assert plain["rl"]["optimizer"]["lr"] == 3e-6
    assert plain["model"]["path"] == EMBEDDED
    assert plain["sft"]["max_steps"] is None
    assert plain["preferences"]["labels"]["values"] == {"0": 0, "1": -1, "2": 1}


anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@settings(deadline=None, max_examples=40)
@given(
    text=anything,
    stop=st.lists(anything.filter(bool), max_size=3),
    columns=st.dictionaries(anything, anything, max_size=3),
    lr=st.floats(min_value=1e-300, max_value=1e300, exclude_min=True),
)
def test_any_recipe_survives_a_round_trip(text: str, stop: list[str], columns: dict[str, str], lr: float) -> None:
    recipe = Recipe.model_validate(
        {
            "dir": f"a{text}",
            "sft": {"columns": columns, "optimizer": {"lr": lr}},
            "rl": {"sampling": {"stop": stop}, "reward": [{"path": f"a{text}", "weight": lr}]},
        }
    )
    for commented in (True, False):
        assert build(parse(dump_recipe(recipe, commented=commented), "r"), Recipe) == recipe


def test_values_in_messages_are_short_and_on_one_line(tmp_path: Path) -> None:
    assert described("x" * 100) == '"' + "x" * 59 + '…" (text)'
    assert len(described(10**70)) < 80
    assert complaint(tmp_path, '"a\\nb": "c\\nd"\n').startswith("recipe.yaml:1: unknown key a b;")
    assert complaint(tmp_path, 'seed: "c\\nd"\n') == 'recipe.yaml:1: seed must be a whole number, found "c d" (text)'


# Methods


@pytest.mark.parametrize("method", [*ONLINE, *OFFLINE])
def test_a_method_fills_in_its_choices_and_what_is_said_stands(method: str, tmp_path: Path) -> None:
    plain = Recipe.model_validate({"method": method})
    assert plain == loaded(tmp_path, f"method: {method}\n")
    said = loaded(
        tmp_path, f"method: {method}\nrl: {{kl: {{coef: 0.7}}, samples_per_prompt: 8, optimizer: {{eps: 1e-3}}}}\n"
    )
    assert (said.rl.kl.coef, said.rl.samples_per_prompt, said.rl.optimizer.eps) == (0.7, 8, 1e-3)
    assert said.rl.kl.estimator == plain.rl.kl.estimator
    assert said.rl.optimizer.lr == plain.rl.optimizer.lr
    assert load_recipe(None, {"method": method, "rl.kl.coef": 0.7}).rl.kl.coef == 0.7


def test_methods_differ() -> None:
    rows = {name: Recipe.model_validate({"method": name}).rl for name in ONLINE}
    chosen = {name: row.model_dump_json(exclude={"batch_size", "samples_per_prompt"}) for name, row in rows.items()}
    assert len(set(chosen.values())) == len(rows)
    assert [name for name, row in rows.items() if row.has_critic] == ["ppo"]


@pytest.mark.parametrize("method", ONLINE)
def test_a_written_recipe_can_be_given_another_method(method: str, tmp_path: Path) -> None:
    """`keel init` leaves a method's choices to the method; a resolved recipe says them all."""
    written = dump_recipe(Recipe(), left_to_method=True)
    assert loaded(tmp_path, written) == Recipe()
    made = loaded(tmp_path, written.replace("method: ppo", f"method: {method}"))
    assert made == Recipe.model_validate({"method": method})
    assert loaded(tmp_path, dump_recipe(made)) == made


def test_a_fault_in_what_nobody_wrote_says_whose_choice_it_is(tmp_path: Path) -> None:
    sentence = "rl.samples_per_prompt must divide batch_size, found 64 (a whole number), which is what method grpo has"
    assert sentence in complaint(tmp_path, "method: grpo\nrl: {batch_size: 32}\n")
    with pytest.raises(UserError, match=re.escape(sentence)):
        load_recipe(None, {"method": "grpo", "rl.batch_size": 32})
    said = complaint(tmp_path, "method: grpo\nrl: {batch_size: 32, samples_per_prompt: 5}\n")
    assert said.endswith("found 5 (a whole number)")


def test_what_a_recipe_says_otherwise_than_its_method_is_written_down(tmp_path: Path) -> None:
    mine = Recipe.model_validate({"method": "gspo", "rl": {"clip": 0.1, "kl": {"coef": 0.3}}})
    written = dump_recipe(mine, left_to_method=True)
    assert loaded(tmp_path, written) == mine
    other = loaded(tmp_path, written.replace("method: gspo", "method: dapo"))
    assert (other.rl.clip, other.rl.clip_high, other.rl.kl.coef, other.rl.redraws) == (0.1, 0.28, 0.3, 8)


def test_the_section_may_still_be_called_ppo(tmp_path: Path) -> None:
    assert loaded(tmp_path, "ppo: {updates: 7}\n") == loaded(tmp_path, "rl: {updates: 7}\n")
    assert load_recipe(None, {"ppo.updates": 7}) == load_recipe(None, {"rl.updates": 7})
    with pytest.raises(UserError, match=r"recipe\.yaml:2: ppo is another name of rl; keep one of the two"):
        loaded(tmp_path, "rl: {updates: 7}\nppo: {updates: 8}\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("method: grpoo\n", "recipe.yaml:1: method must be one of ppo, grpo,"),
        ("method: grpo\nrl: {samples_per_prompt: 1}\n", "rl.samples_per_prompt must be at least 2: credit compares"),
        ("method: grpo\nrl: {surrogate: pair}\n", "rl.surrogate: pair is credit and surrogate at once"),
        ("method: rloo\nrl: {ratio: sequence}\n", "rl.ratio: only a clipped surrogate has a ratio for a whole answer"),
        (
            "method: grpo\nrl: {critic: {body: policy, init: zero}}\n",
            "rl.critic.body: only rl.credit: gae has a critic",
        ),
        ("method: dapo\nrl: {overlong_buffer: 200}\n", "rl.overlong_buffer cannot exceed sampling.max_tokens"),
        ("rl: {redraws: 3}\n", "rl.redraws: only where credit compares the answers to one prompt"),
        ("rl: {importance_cap: 0.5}\n", "rl.importance_cap must be at least 1"),
    ],
)
def test_choices_that_do_not_go_together(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        loaded(tmp_path, text)


def test_cautions_say_where_the_kl_does_not_lead_to_what_it_promises() -> None:
    def said(method: str, **rl: Any) -> str:
        return " ".join(one.says for one in cautions(Recipe.model_validate({"method": method, "rl": rl}).rl))

    function = [{"kind": "function", "path": "a.py:b"}]
    assert said("ppo") == ""
    assert said("rloo") == ""
    assert "β·π_ref/(λ − r)" in said("grpo")
    assert "β becomes β·σ, another one for each prompt" in said("grpo")
    assert "β becomes β·σ, another" not in said("grpo", kl={"place": "reward", "estimator": "k1"})
    assert "λ" not in said("grpo", kl={"weight": "ratio"})
    assert "weighted by the ratio, it has another" in said("grpo", kl={"estimator": "k2", "weight": "ratio"})
    assert "β·σ, with σ that of the update" in said("reinforce++-baseline")
    assert "β·4/3" in said("reinforce++-baseline")
    assert said("reinforce++-baseline", whiten="none", credit="leave-one-out") == ""
    assert "Nothing holds the policy" in said("rft")
    idle = said("rloo", gamma=0.9, clip=0.1, kl={"coef": 0.1})
    assert "Nothing reads rl.gamma and rl.clip with rl.credit: leave-one-out and rl.surrogate: plain." in idle
    assert "Nothing reads rl.mean" in said("online-dpo", mean="sequence")
    assert said("ppo", gamma=0.9, lam=0.5, value_clip=0.1, value_coef=1.0, clip=0.1, clip_high=0.3) == ""
    assert "long answer weighs less" in said("grpo")
    assert "expected gradient of 0" in said("grpo", kl={"estimator": "k1"})
    assert "biased gradient" in said("ppo", kl={"estimator": "k3"})
    assert "Nothing holds the policy" in said("dr-grpo")
    assert said("dr-grpo", reward=function) == ""
    assert "With 4 steps to an update" in said("reinforce++-baseline", epochs=4)
    assert "only the first of the 4 steps" in said("rloo", epochs=4)
    assert said("rft", epochs=4, reward=function) == said("online-dpo", reward=function) == ""
