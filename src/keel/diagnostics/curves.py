"""Which curves a report shows, in which order and with which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keel.config import Guards
from keel.diagnostics.geometry import Chart, Threshold, Tone, figure
from keel.diagnostics.over_optimisation import Verdict, judge
from keel.diagnostics.pictures import curve_chart, over_optimisation_chart
from keel.diagnostics.recorded import Attempts, Curve, Metrics, Recorded
from keel.training.guards import disagreements

_ROWS = 12


@dataclass(frozen=True)
class Shown:
    """A metric that has a picture; `about` says in plain words what it is."""

    metric: str
    title: str
    about: str
    unit: str = ""
    tone: Tone = "sea"
    thresholds: tuple[Threshold, ...] = ()

    def of(self, metrics: Metrics) -> Curve:
        """The metric in its unit."""
        curve = metrics.curve(self.metric)
        return Curve(curve.steps, curve.values * (100 if self.unit == "%" else 1), curve.missing)


@dataclass(frozen=True)
class Table:
    """The numbers behind some pictures, at a few steps."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Group:
    """Curves that stand together."""

    title: str
    about: str
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


_SFT = (
    Shown("loss", "SFT: loss", "How surprised the model is by the demonstrations; lower is better.", "nats per token"),
    Shown("held_out/loss", "SFT: held-out loss", "The same on demonstrations that it never saw.", "nats per token"),
)
_REWARD = (
    Shown(
        "loss", "Reward model: loss",
        "How far the scores are from people’s choices: a coin has 0.69 for a pair, and where whole rankings of K are "
        "learnt ln K! for each.",
        "nats",
    ),
    Shown(
        "accuracy", "Reward model: accuracy", "Share of the training pairs whose preferred answer scores higher.", "%"
    ),
    Shown("held_out/accuracy", "Reward model: held-out accuracy", "The same on pairs that it never saw.", "%"),
)  # fmt: skip


_DIRECT = (
    Shown("loss", "Loss", "What is lowered; its scale is that of the loss that was chosen."),
    Shown("accuracy", "Preferred ahead", "Share of the pairs whose preferred answer has gained more.", "%"),
    Shown("margin", "Margin", "How much more the preferred answer has gained, times β.", "reward"),
    Shown("chosen", "Preferred answers", "How much likelier they are than before; often they fall too.", "nats"),
    Shown("rejected", "Rejected answers", "How much likelier they are than before.", "nats"),
)


def practice_curves(limits: Guards) -> tuple[Shown, ...]:
    """What is drawn of online training, with the lines beyond which this run was to be looked at."""
    return (
        Shown("reward", "Reward", "What is raised: the score of the answers that are learnt from."),
        Shown(
            "reward/gold", "Gold score", "The task’s hidden measure of quality; no model is trained on it.", "points",
            "gold"
        ),
        Shown(
            "kl", "KL", "How far the policy has moved from the SFT model.", "nats per answer", "sea",
            (Threshold(limits.kl[0], "look", "amber"), Threshold(limits.kl[1], "alarm", "red")),
        ),
        Shown("objective", "Reward less KL cost", "What the policy in truth maximises: reward − β·KL."),
        Shown("length", "Length", "How long an answer is.", "tokens"),
        Shown(
            "policy/entropy", "Entropy", "How open each next word is; falls as the policy makes up its mind.", "nats"
        ),
        Shown(
            "policy/clip_fraction", "Clip fraction", "Share of tokens whose change was held back.", "%", "sea",
            (Threshold(100 * limits.clip_fraction, "look", "amber"),),
        ),
        Shown(
            "value/explained_variance", "Critic’s foresight",
            "Explained variance: the share of the outcome that the critic foresees.", "%", "sea",
            (Threshold(100 * limits.explained_variance, "no use", "amber"),),
        ),
        Shown(
            "truncated", "Cut off", "Share of answers that hit the token limit.", "%", "sea",
            (
                Threshold(100 * limits.truncated[0], "look", "amber"),
                Threshold(100 * limits.truncated[1], "alarm", "red"),
            ),
        ),
    )  # fmt: skip


def curve_groups(run: Recorded, limits: Guards) -> list[Group]:
    """The curves of every stage that the run had: the policy's last, with the run's limits."""
    groups = []
    early = [
        (run.metrics[stage], shown) for stage, shown in (("sft", _SFT), ("reward", _REWARD)) if stage in run.metrics
    ]
    if early:
        titles = [title for stage, title in (("sft", "SFT"), ("reward", "reward model")) if stage in run.metrics]
        charts = [chart for metrics, shown in early for chart in _charts(metrics, shown, "step")]
        tables = [_table(_sentence(title), *one, "step") for title, one in zip(titles, early, strict=True)]
        about = "The model learns to write like the demonstrations, the reward model to score as people choose."
        notes = _of_members(run.metrics.get("reward"))
        groups.append(Group(_sentence(" and ".join(titles)), about, tuple(charts), tuple(tables), notes))
    title, practice = run.summary.title, run.practice
    if practice is not None:
        shown = (*practice_curves(limits), *_other_terms(practice))
        about = "The policy practises against the reward, on a leash of KL."
        groups.append(_group(title, about, practice, shown, "update", _notes(practice)))
    elif run.summary.method in run.metrics:
        about = "The policy learns from the preferences themselves which answer to raise, and which to lower."
        groups.append(_group(title, about, run.metrics[run.summary.method], _DIRECT, "step", []))
    return groups


def _group(title: str, about: str, metrics: Metrics, shown: Sequence[Shown], step: str, notes: Sequence[str]) -> Group:
    charts, table = _charts(metrics, shown, step), _table(title, metrics, shown, step)
    return Group(title, about, tuple(charts), (table,), tuple(notes))


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _charts(metrics: Metrics, shown: Sequence[Shown], step: str) -> list[Chart]:
    """A picture for each metric that was logged more than once."""
    return [
        curve_chart(one.title, one.about, one.unit, one.of(metrics), one.tone, one.thresholds, step)
        for one in shown
        if len(metrics.curve(one.metric)) > 1
    ]


def over_optimisation(run: Recorded) -> tuple[Verdict | None, Chart | None]:
    """What proxy and gold say together, and their picture; None where the run has no gold score."""
    metrics = run.practice
    if metrics is None or "reward/gold" not in metrics.names:
        return None, None
    proxy, gold, kl = (metrics.curve(name) for name in ("reward", "reward/gold", "kl"))
    if not len(proxy) == len(gold) == len(kl):
        return None, None
    verdict = judge(proxy.values, gold.values)
    if verdict.kind == "unknown":
        return verdict, None
    return verdict, over_optimisation_chart(kl, proxy, gold, spread(run.attempts), verdict)


def spread(attempts: Attempts) -> tuple[float, float]:
    """Standard deviations of reward and gold over all recorded answers; 1 where they do not vary."""
    known = attempts.gold[np.isfinite(attempts.gold)]
    return (float(np.std(attempts.reward)) or 1.0, float(np.std(known)) if len(known) and np.ptp(known) else 1.0)


def _other_terms(metrics: Metrics) -> list[Shown]:
    """The terms of a reward that is a sum of several."""
    parts = [name for name in metrics.names if name.startswith("reward/")]
    apart = disagreements(parts)
    members = {*apart, *(name.replace("/disagreement", "/mean") for name in apart)}
    own = [name for name in parts if name not in ("reward/std", "reward/gold", "reward/missing_eos")]
    terms = [name for name in own if name not in members]
    about = "How far the reward models are apart, standard deviation; rises where they know less."
    shown = [Shown(name, f"Disagreement: {name.split('/')[1]}", about) for name in apart]
    if len(terms) < 2:
        return shown
    about = "A term of the reward, unweighted."
    return [*shown, *(Shown(name, f"Term: {name.removeprefix('reward/')}", about) for name in terms)]


def _of_members(metrics: Metrics | None) -> tuple[str, ...]:
    """That curves of several reward models are of one after the other."""
    turns = metrics.curve("member") if metrics is not None else None
    if turns is None or not len(turns) or turns.values.max() < 2:
        return ()
    return (
        f"{turns.values.max():.0f} reward models learn one after the other, each from the start: the curves of the "
        "reward model begin anew at each turn, and a point of the held-out accuracy is of the one whose turn ends "
        "there.",
    )


def _notes(metrics: Metrics) -> list[str]:
    """What a reader may stumble over in the curves."""
    kl = metrics.curve("kl")
    below = int((kl.values < 0).sum())
    if not below:
        return []
    return [
        f"KL came out below 0 at {below} of {len(kl)} updates. It is estimated from the sampled answers (their "
        "log-probs under the policy less those under SFT); where the two are close, chance can push that below 0, "
        "although the true KL never is. If it stays below 0, sampling and training disagree: look at “Sampler "
        "against trainer”."
    ]


def _table(title: str, metrics: Metrics, shown: Sequence[Shown], step: str) -> Table:
    logged = [one for one in shown if len(metrics.curve(one.metric))]
    curves = [one.of(metrics) for one in logged]
    steps = sorted({int(at) for curve in curves for at in curve.steps})
    kept = [steps[round(place)] for place in np.linspace(0, len(steps) - 1, min(_ROWS, len(steps)))] if steps else []
    found = [dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True)) for curve in curves]
    rows = tuple((str(at), *(figure(values[at]) if at in values else "" for values in found)) for at in kept)
    names = [one.title.rpartition(": ")[2] + (f", {one.unit}" if one.unit else "") for one in logged]
    return Table(title, (step, *names), rows)
