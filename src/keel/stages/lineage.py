"""What each stage of a run was made from, so that what is finished and unchanged is not made again.

Every stage leaves DIR/<stage>/lineage.json: the settings and inputs that its result follows from, the versions that
made it, once it is done what it made, and when it was gone on with after a stop. Where nothing that it follows from has
changed, the stage is kept; where something has, that is the reason why it is made anew. Settings that change speed or
memory only do not count, nor do device and versions.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from keel.config import ONLINE, Method, Recipe
from keel.data.write import write_json

StageName = Literal["sft", "preferences", "reward", "evaluation"] | Method
"""The stages; the one that makes the policy is called by its method, and so is its folder."""
VERSIONS = ("keel", "torch", "transformers", "peft", "tokenizers", "numpy")
_FILE = "lineage.json"
_ALL = ("task", "seed", "dtype", "model")
_NEUTRAL = {"micro_tokens", "log_every", "recompute", "host", "port"}
"""Fields that change speed, memory or what is written down, never the result."""
_OF_PAIRS = ("loss", "beta", "flips", "gamma", "length")
"""What a method that learns from the policy's own pairs reads of the section dpo."""
_OF_MEMBERS = ("aggregate", "penalty")
"""What says how the run's own reward models come to one score, in a term of the reward."""
_BY_CONTENT = {"data", "prompts", "columns", "path", "template", "policy", "earlier", "guidelines", "scorer"}
"""Fields that name an input, which counts by what it holds."""


@dataclass(frozen=True)
class Input:
    """Something that a stage reads: where it came from, and the fingerprint of what it held."""

    source: str
    fingerprint: str


@dataclass(frozen=True)
class Made:
    """What a stage's result follows from."""

    stage: StageName
    settings: Mapping[str, Any]
    inputs: Mapping[str, Input]

    @property
    def key(self) -> str:
        """One number for all of it."""
        held = {name: one.fingerprint for name, one in self.inputs.items()}
        return hashlib.sha256(json.dumps([self.settings, held], sort_keys=True).encode()).hexdigest()

    def since(self, before: Made) -> Iterator[str]:
        """What is another than it was before, each in a few words."""
        for name in sorted({*self.settings, *before.settings}):
            was, now = (json.dumps(one.settings.get(name), ensure_ascii=False) for one in (before, self))
            if was != now:
                yield f"{name} was {was} and is {now}"
        for name in sorted({*self.inputs, *before.inputs}):
            old, new = before.inputs.get(name), self.inputs.get(name)
            if old is None or new is None:
                yield f"{name} {'was not read before' if old is None else 'is no longer read'}"
            elif old.fingerprint != new.fingerprint:
                yield f"{name} ({new.source}) is not what it was"


@dataclass(frozen=True)
class Resumption:
    """A process went on with a stage: when (UTC, as in ISO 8601), and after how many steps."""

    at: str
    step: int


@dataclass(frozen=True)
class Lineage:
    """A stage: what it is made from, what it made (fingerprints by name; none until it is done), the versions, and
    each time that it was gone on with."""

    made: Made
    outputs: Mapping[str, str]
    versions: Mapping[str, str]
    resumed: tuple[Resumption, ...] = ()

    def write(self, folder: Path) -> None:
        """Leave it in the stage's folder."""
        write_json(folder / _FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Lineage | None:
        """What a stage left there; None where it left nothing that can be read."""
        try:
            found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            made = found["made"]
            inputs = {name: Input(one["source"], one["fingerprint"]) for name, one in made["inputs"].items()}
            resumed = tuple(Resumption(one["at"], int(one["step"])) for one in found.get("resumed", ()))
            return cls(Made(made["stage"], made["settings"], inputs), found["outputs"], found["versions"], resumed)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def go_on(folder: Path, step: int) -> None:
    """Write down that this process goes on with the stage in the folder, where it says what it is made from."""
    lineage = Lineage.read(folder)
    if lineage is not None:
        now = Resumption(datetime.now(UTC).isoformat(timespec="seconds"), step)
        replace(lineage, resumed=(*lineage.resumed, now)).write(folder)


def resumptions(folder: Path) -> tuple[Resumption, ...]:
    """Each time that the stage in the folder was gone on with, in order."""
    lineage = Lineage.read(folder)
    return () if lineage is None else lineage.resumed


def settings_of(recipe: Recipe, stage: StageName) -> dict[str, Any]:
    """The fields of the recipe that the stage's result follows from, under their dotted names."""
    whole = recipe.model_dump(mode="json")
    guards = whole["rl"]["guards"]
    if guards["on_red"] == "go_on":  # then they say something, and change nothing
        whole["rl"]["guards"] = {"on_red": "go_on", "best_every": guards["best_every"]}
    own = "rl" if stage in ONLINE else stage
    found = {name: value for section in (*_ALL, own) for name, value in _flat(section, whole[section])}
    if stage in ONLINE and recipe.rl.surrogate == "pair":
        found |= {f"dpo.{name}": whole["dpo"][name] for name in _OF_PAIRS}
    if stage == "evaluation" and recipe.reward.kept > 1:  # the judge's score, whoever the policy practised for
        found |= {f"rl.reward.{name}": getattr(recipe.own_term, name) for name in _OF_MEMBERS}
    return found


def versions() -> dict[str, str]:
    """Of Python and of the libraries that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    leaf = name.rpartition(".")[2]
    if leaf in _NEUTRAL or leaf in _BY_CONTENT:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value
