"""A recipe from a file, from flags and from Python values; every complaint is one sentence that says where and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from keel.config.methods import PRESETS, choices_of
from keel.config.parts import RewardTerm
from keel.config.recipe import Recipe
from keel.config.section import Section, leaves
from keel.config.source import Source, Trail, described, parse, short
from keel.errors import UserError

S = TypeVar("S", bound=Section)
_DEEPEST = 20
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")

_OTHER_NAMES: Mapping[str, str] = {
    "learning_rate": "optimizer.lr",
    "beta": "rl.kl.coef",
    "kl_coef": "rl.kl.coef",
    "init_kl_coef": "rl.kl.coef",
    "cliprange": "clip",
    "epsilon": "clip",
    "epsilon_high": "clip_high",
    "clip_ratio": "clip",
    "clip_ratio_high": "clip_high",
    "num_generations": "samples_per_prompt",
    "rollout_n": "samples_per_prompt",
    "num_iterations": "epochs",
    "loss_type": "dpo.loss",
    "label_smoothing": "flips",
    "simpo_gamma": "gamma",
    "scale_rewards": "credit",
    "importance_sampling_level": "ratio",
    "loss_agg_mode": "mean",
    "adv_estimator": "credit",
    "algorithm": "method",
    "cliprange_value": "value_clip",
    "vf_coef": "value_coef",
    "lambda": "lam",
    "max_new_tokens": "max_tokens",
    "response_length": "max_tokens",
    "num_train_epochs": "epochs",
    "ppo_epochs": "epochs",
    "num_ppo_epochs": "epochs",
    "num_mini_batches": "minibatches",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "micro_tokens",
    "dataset": "data",
    "base_model": "model.path",
    "model_name_or_path": "model.path",
    "output_dir": "dir",
}
"""What other programs call our fields, for "did you mean"."""

_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "tuple_type": "a list such as [a, b]",
    "dict_type": "a mapping such as {prompt: question}",
    "model_type": "a section of `key: value` lines",
    "finite_number": "a finite number",
}


def load_recipe(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a YAML file (None: the defaults), with fields replaced, as in {"rl.kl.coef": 0.02}.

    What the file leaves out keeps its default. UserError for a file that is missing, empty or not YAML, an unknown key
    (with the nearest right one), a value of the wrong type or out of range: file, line, key, what was expected.
    """
    source = Source() if path is None else read(Path(path))
    return build(_overridden(source.renamed(Recipe.other_names), overrides or {}), Recipe)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with fields replaced, as in {"rl.kl.coef": 0.02}; checked as if it had been read so."""
    return build(_overridden(Source(recipe.model_dump(mode="json")), changes), Recipe)


def _overridden(source: Source, changes: Mapping[str, Any]) -> Source:
    for dotted, value in changes.items():
        source = source.overridden(Recipe.own_name(dotted), value, f"override {dotted}")
    return source


def read(path: Path) -> Source:
    """The values of a recipe file, unchecked, with their lines."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"there is no recipe {path}; `keel init DIR` writes one to start from") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8; a recipe is YAML") from None
    except (OSError, ValueError) as error:  # a ValueError where there is a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot read the recipe {short(str(path))}: {reason}") from None
    return parse(text, str(path))


def build(source: Source, kind: type[S]) -> S:
    """The recipe, or part of one, that the values describe; UserError about the first fault and how many follow."""
    _require_text(source)
    source = source.renamed(kind.other_names)
    try:
        return kind.model_validate(source.values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        within = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
        first, *others = [fault for fault in faults if fault["loc"] not in within]  # a bad entry empties its list too
        more = f" ({len(others)} more like this)" if others else ""
        raise UserError(" ".join(f"{_sentence(first, source)}{more}".split())) from None


def _require_text(source: Source) -> None:
    """UserError for a text that could not be written down again, and for what is nested as no recipe is."""
    waiting: list[tuple[Trail, Any]] = [((), source.values)]
    while waiting:
        trail, value = waiting.pop()
        place = source.origin(trail) or "recipe"
        if len(trail) > _DEEPEST:
            raise UserError(f"{place}: nested too deeply for a recipe")
        if isinstance(value, str) and (found := _NO_TEXT.search(value)):
            raise UserError(f"{place}: {'.'.join(map(str, trail))} holds {found[0]}, which no text may; leave it out")
        if isinstance(value, Mapping):
            waiting += [((*trail, key), one) for key, item in value.items() for one in (key, item)]
        elif isinstance(value, list | tuple):
            waiting += [((*trail, index), item) for index, item in enumerate(value)]


def nearest(unknown: str) -> str | None:
    """The dotted name of the field that somebody who wrote `unknown` most likely meant."""
    section, _, last = unknown.rpartition(".")
    names = [name for name, _ in leaves(Recipe)]
    if section.rpartition(".")[2].isdigit():  # an entry of a list of sections
        names += [f"{section}.{name}" for name in RewardTerm.model_fields]
    for word in (_OTHER_NAMES.get(last, last), last):  # the right name, perhaps in the wrong place
        ending = [name for name in names if f".{name}".endswith(f".{word}")]
        if ending:
            return max(ending, key=lambda name: (_shared(name, section), -len(name)))
    beside = {name.rpartition(".")[2]: name for name in names if name.rpartition(".")[0] == section}
    sections = {part: part for name in names for part in accumulate(name.split(".")[:-1], "{}.{}".format)}
    for word, among in ((last, beside), (unknown, {name: name for name in names}), (unknown, sections)):
        for close in get_close_matches(word, among, n=1):
            return among[close]
    return None


def unknown_key(dotted: str) -> str:
    """The sentence about a key that is no field."""
    guess = nearest(dotted)
    remedy = f"did you mean {guess}?" if guess else "`keel init DIR` writes a recipe with every key in it"
    return f"unknown key {dotted}; {remedy}"


def _shared(name: str, section: str) -> int:
    """How many leading parts of a field's name are those of the section."""
    parts, wanted = name.split("."), section.split(".")
    return next(
        (i for i, (a, b) in enumerate(zip(parts, wanted, strict=False)) if a != b), min(len(parts), len(wanted))
    )


def _sentence(error: ErrorDetails, source: Source) -> str:
    context: Mapping[str, Any] = error.get("ctx", {})
    trail: Trail = error["loc"]
    if error["type"] == "keel":
        trail = (*trail, *str(context["key"]).split("."))
    if error["type"] == "missing":  # an entry of a list with a fixed length: nothing else in a recipe is required
        context, trail = {"min_length": int(trail[-1]) + 1}, trail[:-1]
    dotted = ".".join(map(str, trail))
    place = source.origin(trail)
    key, at = (place, "") if place == f"--{dotted}" else (dotted, f"{place}: " if place else "")
    if error["type"] == "extra_forbidden":
        return at + unknown_key(dotted)
    found = described(context.get("found", error["input"]))
    if error["type"] == "keel":
        chooser = source.values.get("method")
        chosen = next((preset.choices for name, preset in PRESETS.items() if name == chooser), {})
        if not source.says(trail) and dotted in {f"rl.{name}" for name in choices_of(chosen)}:
            found += f", which is what method {chooser} has there"
        return f"{at}{error['msg'].replace(str(context['key']), key, 1)}, found {found}"
    return f"{at}{key} must be {_expected(error['type'], error['msg'], context)}, found {found}"


def _expected(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        return f"one of {str(context['expected']).replace(chr(39), '')}"
    bounds = {
        "greater_than_equal": ("at least", "ge"),
        "greater_than": ("more than", "gt"),
        "less_than_equal": ("at most", "le"),
        "less_than": ("less than", "lt"),
    }
    if kind in bounds:
        words, bound = bounds[kind]
        return f"{words} {context[bound]:g}"
    if kind in ("too_short", "missing"):
        return f"a list of at least {context['min_length']}"
    if kind == "too_long":
        return f"a list of at most {context['max_length']}"
    return _EXPECTED.get(kind, message[:1].lower() + message[1:])
