"""Recipes and command lines as people write them: real keys, with values and shapes that do not belong there."""

from __future__ import annotations

from hypothesis import strategies as st

from keel.config import Recipe, RewardTerm, dump_recipe
from keel.config.section import leaves

from .files import damaged, texts

NAMES = tuple(name for name, _ in leaves(Recipe))
SECTIONS = (
    "model",
    "sft",
    "sft.optimizer",
    "ppo",
    "rl.kl",
    "rl.sampling",
    "preferences.labels",
    "evaluation",
    "model.lora",
)
OTHERS = (
    "",
    "a",
    "ppo.klcoef",
    "sft.learning_rate",
    "seed ",
    "Seed",
    "rl.reward.0",
    "sft.columns.prompt",
    "sft.columns.",
    "preferences.labels.values.0",
    "ppo..kl",
    ".",
    "x" * 300,
    "rl.kl.coef.x",
    "é",
    "²",
    "null",
    "<<",
)
VALUES = (
    "0",
    "1",
    "-1",
    "3",
    "0.5",
    "1e5",
    "1e-5",
    "1e400",
    "-0.0",
    ".nan",
    ".inf",
    "-.inf",
    "nan",
    "true",
    "on",
    "yes",
    "no",
    "null",
    "~",
    "",
    "''",
    '""',
    "cpu",
    "text",
    "2024-01-01",
    "12:30:45",
    "0x10",
    "0o7",
    "1_000",
    "007",
    "9" * 30,
    "9" * 450,
    "1e308",
    "9223372036854775807",
    "9223372036854775808",
    "4294967296",
    "[]",
    "[a, b]",
    "[0.9, 0.95]",
    "[[1]]",
    "{}",
    "{a: b}",
    "{a: 1, a: 2}",
    "{kind: function}",
    "[{kind: function, path: 'a.py:b'}]",
    "[{weight: .inf}]",
    "[1, 2",
    "{a: ",
    '"open',
    "'open",
    '"\\ud800"',
    '"\\0"',
    '"\\U00110000"',
    '"\\x1b[31m"',
    '"a\\nb"',
    '"\\N\\L\\P"',
    "*nowhere",
    "&a [*a]",
    "&b {x: *b}",
    "!!python/object/apply:os.system [false]",
    "!!python/name:os.system",
    "!!binary aGk=",
    "!!int 'x'",
    "!!set {a}",
    "!mine x",
    "!!str 3",
    "!!float 1",
    "? a",
    "- a",
    "|\n  block",
    ">-\n  folded",
    "a: b: c",
    "@at",
    "`tick",
    "%pc",
    "\ttab",
    "a #b",
    "#",
    "~nobody-of-this-name/x",
    "a" * 5000,
    "[" * 400,
    "{a: " * 300,
    "[" * 60 + "]" * 60,
    "dawid-skene",
    "lora",
    "shared",
    "gold",
    "reward",
    "a\x00b",
    "\ufeff",
    "\ud83d",
    "\x85",
    "=",
    "<<: *a",
    "---",
    "...",
)
values = st.sampled_from(VALUES) | st.integers().map(str) | st.floats().map(repr) | texts
names = st.sampled_from(NAMES) | st.sampled_from(NAMES) | st.sampled_from((*SECTIONS, *OTHERS))
indents = st.sampled_from(("  ", "  ", "    ", "\t", " "))


@st.composite
def written(draw: st.DrawFn) -> str:
    """A recipe of a few keys, nested as they should be or written with dots."""
    lines: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        name, value = draw(names), draw(values)
        if draw(st.integers(0, 9)) == 0:
            lines.append(f"{name}: {value}")
            continue
        *sections, last = name.split(".")
        indent = draw(indents)
        lines += [f"{indent * depth}{section}:" for depth, section in enumerate(sections)]
        lines.append(f"{indent * len(sections)}{last}: {value}")
    return "\n".join(lines) + draw(st.sampled_from(("\n", "", "\n---\nseed: 1\n", "\n...\n", "\r\n")))


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    """The recipe with every key in it, and one of its values replaced."""
    lines = dump_recipe(Recipe(), commented=draw(st.booleans())).split("\n")
    places = [place for place, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    place = draw(st.sampled_from(places))
    lines[place] = f"{lines[place].partition(':')[0]}: {draw(values)}"
    return "\n".join(lines)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*RewardTerm.model_fields, "a"]), inner)
    ),
    max_leaves=5,
)
"""Python values for a field."""


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


recipes = (written() | spoilt()).map(encoded)
recipes |= recipes.flatmap(damaged)
"""What stands in a recipe's file."""

flags = st.lists(
    st.tuples(names | st.sampled_from(("json", "help", "data", "model")), values, st.booleans()), max_size=3
).map(
    lambda given: [
        token for name, value, joined in given for token in ([f"--{name}={value}"] if joined else [f"--{name}", value])
    ]
)
"""Flags of a command line; a NUL can stand in none."""
