"""The table of docs/algorithms.md, from the presets: `python -m keel.config.algorithms` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from keel.config.dump import inline_yaml
from keel.config.methods import ONLINE, PRESETS, Method
from keel.config.online import Online
from keel.config.recipe import Recipe

_CREDIT = {
    "gae": "GAE, with a critic",
    "return": "rewards to come",
    "group-std": "(r − mean)/std of its group",
    "group-mean": "r − mean of its group",
    "leave-one-out": "r − mean of the others",
    "best": "1 for the best of its group",
    "pair": "the best against the worst",
}
_MEAN = {"token": "tokens", "sequence": "answers, of each its tokens", "constant": "answers × max_tokens"}


def table() -> str:
    """One row for each online method: its choices, and where they are from."""
    head = ("`method`", "credit", "surrogate", "KL", "mean over", "answers, a prompt, epochs × steps", "source")
    rows = [head, ("---",) * len(head), *(_row(name) for name in ONLINE)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def departures() -> str:
    """A line for each method that departs from its source, or adds to it."""
    return "\n".join(
        f"- **{PRESETS[name].title}**: {PRESETS[name].departures}" for name in ONLINE if PRESETS[name].departures
    )


def _row(name: Method) -> tuple[str, ...]:
    settings = Recipe.model_validate({"method": name}).rl
    whitened = ", whitened" if settings.whiten == "advantages" and settings.credit not in ("best", "pair") else ""
    size = f"{settings.batch_size}, {settings.samples_per_prompt}, {settings.epochs} × {settings.minibatches}"
    return (
        f"`{name}`",
        f"{_CREDIT[settings.credit]}{whitened}",
        _surrogate(settings),
        _kl(settings),
        "pairs" if settings.credit == "pair" else _MEAN[settings.mean],
        size,
        PRESETS[name].source,
    )


def _surrogate(settings: Online) -> str:
    high = settings.clip if settings.clip_high is None else settings.clip_high
    low, above = inline_yaml(settings.clip), inline_yaml(high)
    match settings.surrogate:
        case "clipped":
            of = "an answer's ratio" if settings.ratio == "sequence" else "a token's ratio"
            return f"{of}, clipped at 1 − {low}, 1 + {above}"
        case "weighted":
            return f"log π under its ratio, at most 1 + {above}"
        case "plain":
            return "log π"
        case "pair":
            return "`dpo.loss`"


def _kl(settings: Online) -> str:
    if settings.credit == "pair":
        return "`dpo.beta`"
    if not settings.kl.coef:
        return "none"
    weighted = " times the ratio" if settings.kl.weight == "ratio" else ""
    return f"{settings.kl.estimator}{weighted} in the {settings.kl.place}, β {inline_yaml(settings.kl.coef)}"


def _lines() -> Iterator[str]:
    yield table()
    yield ""
    yield departures()


if __name__ == "__main__":
    sys.stdout.write("\n".join([*_lines(), ""]))
