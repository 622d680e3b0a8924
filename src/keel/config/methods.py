"""The methods by name, and what the source of each chooses; docs/algorithms.md is written from this table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Method = Literal[
    "ppo",
    "grpo",
    "dr-grpo",
    "dapo",
    "gspo",
    "cispo",
    "rloo",
    "reinforce",
    "reinforce++",
    "reinforce++-baseline",
    "rft",
    "online-dpo",
    "dpo",
]
OFFLINE: tuple[Method, ...] = ("dpo",)
"""Those that learn from preferences alone, and sample nothing."""
ONLINE: tuple[Method, ...] = tuple(name for name in get_args(Method) if name not in OFFLINE)
"""Those that practise: rows of one loop."""


@dataclass(frozen=True)
class Preset:
    """A method: what it is called, where it is from, what its source chooses (settings of `rl`), and where Keel departs
    from it."""

    title: str
    source: str
    choices: Mapping[str, Any]
    departures: str


_ADAM: Mapping[str, Any] = {"eps": 1e-8}  # Adam's own; 1e-5 is that of lm-human-preferences, and so of PPO here
_NO_CUT: Mapping[str, Any] = {"missing_eos_score": None}
_GROUPS: Mapping[str, Any] = {**_NO_CUT, "whiten": "none", "epochs": 1, "sampling": {"temperature": 1.0}}
_FREE: Mapping[str, Any] = {"kl": {"coef": 0.0}}
_SLOW: Mapping[str, Any] = {"optimizer": {**_ADAM, "lr": 1e-6, "schedule": "constant"}}

PRESETS: Mapping[Method, Preset] = {
    "ppo": Preset(
        "PPO",
        "1707.06347; for language 1909.08593, 2203.02155, 2403.17031",
        {},
        "Policy and critic have an optimizer each; a minibatch holds whole prompts.",
    ),
    "grpo": Preset(
        "GRPO",
        "2402.03300",
        {
            **_GROUPS,
            **_SLOW,
            "credit": "group-std",
            "mean": "sequence",
            "kl": {"place": "loss", "estimator": "k3", "coef": 0.04},
            "batch_size": 1024,
            "samples_per_prompt": 64,
        },
        "The deviation is that of the group itself (a mean over n, not n − 1), and its variance has a floor of 1e-8, "
        "so that a group that scores alike has advantage 0; the reference stays the model of the start, where the "
        "source renews it in rounds.",
    ),
    "dr-grpo": Preset(
        "Dr. GRPO",
        "2503.20783",
        {
            **_GROUPS,
            **_SLOW,
            **_FREE,
            "credit": "group-mean",
            "mean": "constant",
            "batch_size": 1024,
            "samples_per_prompt": 8,
        },
        "",
    ),
    "dapo": Preset(
        "DAPO",
        "2503.14476",
        {
            **_GROUPS,
            **_SLOW,
            **_FREE,
            "credit": "group-std",
            "clip": 0.2,
            "clip_high": 0.28,
            "redraws": 8,
            "batch_size": 8192,
            "samples_per_prompt": 16,
            "minibatches": 16,
        },
        "Dynamic sampling stops after `rl.redraws` more draws, and an update then learns from the groups that it has; "
        "groups count as alike by their reward without the overlong penalty, not by being right or wrong; that penalty "
        "is off until `rl.overlong_buffer` says how long it is; cut-off answers are not left out of the loss; the rate "
        "has no warm-up unless `rl.optimizer.warmup_ratio` says so.",
    ),
    "gspo": Preset(
        "GSPO",
        "2507.18071",
        {
            **_GROUPS,
            **_SLOW,
            **_FREE,
            "credit": "group-std",
            "ratio": "sequence",
            "clip": 3e-4,
            "clip_high": 4e-4,
            "mean": "sequence",
            "batch_size": 1024,
            "samples_per_prompt": 16,
            "minibatches": 4,
        },
        "Sizes of batch and group are not in the source.",
    ),
    "cispo": Preset(
        "CISPO",
        "2506.13585",
        {
            **_GROUPS,
            **_SLOW,
            **_FREE,
            "credit": "group-std",
            "surrogate": "weighted",
            "clip_high": 4.0,
            "redraws": 8,
            "batch_size": 1024,
            "samples_per_prompt": 16,
            "minibatches": 4,
        },
        "The source does not say where it cuts off (1 + 4 is that of ScaleRL, 2510.13786), nor the sizes of batch and "
        "group; as in DAPO, redraws have a bound, and the penalty on length is off until `rl.overlong_buffer` is set.",
    ),
    "rloo": Preset(
        "RLOO",
        "2402.14740",
        {
            **_GROUPS,
            "credit": "leave-one-out",
            "surrogate": "plain",
            "mean": "constant",
            "kl": {"coef": 0.03},
            "samples_per_prompt": 4,
            "optimizer": {**_ADAM, "lr": 1e-6},
        },
        "The loss is a mean over answers × max_tokens, not over answers: a constant that Adam's step does not see.",
    ),
    "reinforce": Preset(
        "REINFORCE",
        "Williams (1992); for language 2402.14740",
        {
            **_NO_CUT,
            "credit": "return",
            "whiten": "none",
            "surrogate": "plain",
            "mean": "constant",
            "epochs": 1,
            "sampling": {"temperature": 1.0},
            "kl": {"coef": 0.03},
            "optimizer": {**_ADAM, "lr": 1e-6},
        },
        "Without a moving baseline: learned rewards are standardised (`rl.reward_normalisation`), which takes its "
        "place; for the rewards of a function `rl.whiten: advantages` does.",
    ),
    "reinforce++": Preset(
        "REINFORCE++",
        "2501.03262",
        {
            **_NO_CUT,
            "credit": "return",
            "epochs": 1,
            "sampling": {"temperature": 1.0},
            "kl": {"coef": 0.01},
            "optimizer": {**_ADAM, "lr": 5e-7},
        },
        "",
    ),
    "reinforce++-baseline": Preset(
        "REINFORCE++ with baseline",
        "2501.03262",
        {
            **_NO_CUT,
            "credit": "group-mean",
            "epochs": 1,
            "sampling": {"temperature": 1.0},
            "kl": {"place": "loss", "estimator": "k2", "coef": 0.01},
            "samples_per_prompt": 4,
            "optimizer": {**_ADAM, "lr": 5e-7},
        },
        "",
    ),
    "rft": Preset(
        "Rejection-sampling fine-tuning",
        "2304.06767 (RAFT); 2307.09288, section 3.2.3",
        {
            **_NO_CUT,
            **_FREE,
            "credit": "best",
            "whiten": "none",
            "surrogate": "plain",
            "sampling": {"temperature": 1.0},
            "samples_per_prompt": 16,
            "epochs": 1,
            "optimizer": _ADAM,
        },
        "Each update samples from the newest policy; Llama 2 also keeps the best answers of earlier ones.",
    ),
    "online-dpo": Preset(
        "Online DPO",
        "2402.04792",
        {
            **_NO_CUT,
            **_FREE,
            "credit": "pair",
            "whiten": "none",
            "surrogate": "pair",
            "samples_per_prompt": 2,
            "epochs": 1,
            "sampling": {"temperature": 1.0},
            "optimizer": {**_ADAM, "lr": 5e-7},
        },
        "The judge is the reward, not a language model that is asked; the pull to the reference is `dpo.beta`, not "
        "`rl.kl`.",
    ),
    "dpo": Preset("DPO", "2305.18290 and those of `dpo.loss`", {}, "See `keel.maths.preferences`."),
}


def choices_of(choices: Mapping[str, Any]) -> Iterator[str]:
    """The settings that choices speak of, as in kl.coef."""
    for name, choice in choices.items():
        if isinstance(choice, Mapping):
            yield from (f"{name}.{inner}" for inner in choices_of(choice))
        else:
            yield name


def with_preset(given: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The values of a recipe with the choices of its method filled in where `rl` says nothing; a section that is an
    object says everything."""
    method = given.get("method", "ppo")
    preset = PRESETS.get(method) if isinstance(method, str) else None  # type: ignore[call-overload]
    rl = given.get("rl")
    if preset is None or not preset.choices or not (rl is None or isinstance(rl, Mapping)):
        return given
    return {**given, "rl": _under(rl or {}, preset.choices)}


def _under(given: Mapping[Any, Any], choices: Mapping[str, Any]) -> dict[Any, Any]:
    """`given`, with `choices` beneath it, section by section."""
    both: dict[Any, Any] = {**choices, **given}
    for name, choice in choices.items():
        if isinstance(choice, Mapping) and isinstance(given.get(name), Mapping):
            both[name] = _under(given[name], choice)
        elif isinstance(choice, Mapping) and given.get(name, 0) is None:
            both[name] = dict(choice)
    return both
