"""Alarms while PPO runs: what the metrics of each update say, with those before it, against the limits of the recipe.

A guard judges the median of the last `window` updates, once there are so many: a single batch moves it little. Its
alarm rises at once and falls when `window` judgements in a row were better, so that one on the edge is not said again
and again. Everything here is
arithmetic on metrics: the same ones raise the same alarms. Limits: `keel.config.Guards`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any, Literal

from keel.config import Guards

Level = Literal["ok", "amber", "red"]
_LEVELS: tuple[Level, ...] = ("ok", "amber", "red")
_TOGETHER, _FEWEST = 5, 3
"""Evaluations in a row that make a best: so many, or all that there are, but no fewer than these."""

BELOW_ZERO = "below 0 by chance: it is estimated from samples, and the true distance, never negative, is close to 0"
"""Why a KL can come out negative."""

REMEDY: Mapping[str, str] = {
    "kl": "Raise rl.kl.coef, use the adaptive controller (rl.kl.controller: adaptive), or lower rl.optimizer.lr; "
    "read answers from the end of the run before trusting the reward.",
    "length": "Compare answers by hand: is the longer one better? If not, the reward model likes length. Add "
    "comparisons in which the short answer wins, or a reward function that charges for length (rl.reward).",
    "entropy": "The policy is narrowing to a few phrases. Lower rl.optimizer.lr or rl.epochs, raise rl.kl.coef, or "
    "draw more answers per update (rl.batch_size).",
    "truncated": "Raise rl.sampling.max_tokens, or make sure that the model learns to stop: SFT must train the "
    "end-of-text token, and rl.missing_eos_score should be below the usual reward.",
    "disagreement": "The policy has come to answers that the reward models were not fitted to. Set aggregate: worst or "
    "uncertainty in rl.reward, raise rl.kl.coef, or gather comparisons of the new policy's answers.",
    "clip_fraction": "Updates are too large for the data they rest on: lower rl.optimizer.lr or rl.epochs.",
    "explained_variance": "Give the critic a head start (rl.critic.warmup_updates), a larger rl.critic.lr, or start "
    "it from the reward model (rl.critic.init: reward).",
    "sampler_kl": "They should be the same model: check number formats (dtype), the chat template and the sampling "
    "temperature.",
    "flat_groups": "Such prompts are too easy or too hard, or the reward is too coarse: draw others in their place "
    "(rl.redraws), raise rl.sampling.temperature, or more answers to a prompt (rl.samples_per_prompt).",
    "gold": "Stop earlier, raise rl.kl.coef, or train the reward model on more comparisons, best of all on answers of "
    "the new policy.",
    "finite": "Lower the learning rate or max_grad_norm, or use dtype: float32; look for rows of the data that are "
    "empty.",
    "negative_kl": "If it stays there, sampler and trainer disagree (look at sampler_kl), or top_p, top_k or min_p cut "
    "off what the policy would say.",
}
"""What to do about each."""


def disagreements(names: Iterable[str]) -> list[str]:
    """The metrics that say how far the reward models of a term are apart: `reward/<term>/disagreement`."""
    return [name for name in names if (parts := name.split("/"))[0] == "reward" and parts[2:] == [_APART]]


def level(value: float, amber: float, red: float | None = None) -> Level:
    """How bad a value is that is worse the larger it is."""
    if red is not None and value >= red:
        return "red"
    return "amber" if value >= amber else "ok"


@dataclass(frozen=True)
class Alarm:
    """A guard that has changed its mind after update `step`; level "note" is an explanation, and no alarm.

    `value` is what it judged, None where that is no number. `remedy` is empty where things are better than `before`.
    """

    step: int
    name: str
    level: Literal["ok", "amber", "red", "note"]
    before: Level
    value: float | None
    sentence: str
    remedy: str

    @property
    def words(self) -> str:
        """All of it for a reader."""
        if self.level == "note":
            return f"update {self.step}: {self.sentence} {self.remedy}"
        if not self.remedy:
            return f"update {self.step}, no longer {self.before}: {self.sentence}"
        return f"update {self.step}, {self.level}: {self.sentence} {self.remedy}"


@dataclass(frozen=True)
class Verdict:
    """What a guard finds at one update."""

    level: Level
    value: float | None
    sentence: str


@dataclass
class Trend:
    """The first and the last few finite values of a metric, and how many there were in all."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    count: int = 0

    def add(self, value: float, window: int) -> None:
        """Values that are not finite are another guard's."""
        if math.isfinite(value):
            self.first = [*self.first, value][:window]
            self.last = [*self.last, value][-window:]
            self.count += 1

    @property
    def now(self) -> float:
        """The median of the last."""
        return median(self.last)

    @property
    def start(self) -> float:
        """The median of the first."""
        return median(self.first)


@dataclass
class Evaluations:
    """Gold and reward in blocks of updates, each block an evaluation, and the noise of gold from update to update."""

    gold: list[float] = field(default_factory=list)
    proxy: list[float] = field(default_factory=list)
    open: list[tuple[float, float]] = field(default_factory=list)
    squares: float = 0.0
    steps: int = 0
    previous: float | None = None

    def add(self, gold: float, proxy: float, window: int) -> bool:
        """Whether an evaluation is complete with this update."""
        if self.previous is not None:
            self.squares += (gold - self.previous) ** 2
            self.steps += 1
        self.previous = gold
        self.open.append((gold, proxy))
        if len(self.open) < window:
            return False
        golds, proxies = zip(*self.open, strict=True)
        self.gold.append(fmean(golds))
        self.proxy.append(fmean(proxies))
        self.open = []
        return True

    def fallen(self, last: int, errors: float, window: int) -> bool:
        """Whether each of the `last` evaluations lies so many standard errors below the best ones in a row before.

            Ḡ_t < max_k B_k − errors·s·√(1/w + 1/mw),   B_k = mean of m evaluations in a row
            s² = Σ_t (gold_{t+1} − gold_t)² / 2(N − 1)

        w updates in an evaluation; `s` is the noise from one update to the next, which the trend hardly enters. Several
        together (m = 5, or as many as there are), for the best of many single ones is far up by chance alone.
        """
        best = self.best(last)
        if best is None:
            return False
        together = min(_TOGETHER, len(self.gold) - last)
        error = math.sqrt(self.squares / (2 * self.steps) * (1 / window + 1 / (together * window)))
        return all(gold < best[0] - errors * error for gold in self.gold[-last:])

    def best(self, last: int) -> tuple[float, float] | None:
        """Gold and reward of the best evaluations in a row, the `last` left out; None where there are too few."""
        before = len(self.gold) - last
        if before < _FEWEST:
            return None
        together = min(_TOGETHER, before)
        starts = range(before - together + 1)
        return max((fmean(self.gold[k : k + together]), fmean(self.proxy[k : k + together])) for k in starts)


class Alarms:
    """All guards of one stage, and what they need of its past."""

    def __init__(self, settings: Guards, warmup: int = 0) -> None:
        self.settings = settings
        self._warmup = warmup
        self._trends = {name: Trend() for name in _TRENDS}
        self._evaluations = Evaluations()
        self._evaluated = False
        self._recent: dict[str, list[Level]] = {name: [] for name in _GUARDS}
        self._explained = False

    @property
    def is_red(self) -> bool:
        """Whether any alarm is red now."""
        return any(self._level(name) == "red" for name in _GUARDS)

    def judge(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Whatever the metrics of update `step` change; to be called once for each update, in their order."""
        self._take_note(step, metrics)
        found = []
        for name, guard in _GUARDS.items():
            verdict = guard(self, metrics)
            if verdict is not None:
                found += self._changes(step, name, verdict)
        return found + self._explanations(step, metrics)

    def trend(self, metric: str, values: int) -> Trend | None:
        """None as long as there were fewer values."""
        trend = self._trends[metric]
        return trend if trend.count >= values else None

    @property
    def evaluations(self) -> Evaluations | None:
        """None unless an evaluation is complete with this update."""
        return self._evaluations if self._evaluated else None

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` goes on."""
        return {
            "window": self.settings.window,
            "trends": {name: asdict(trend) for name, trend in self._trends.items()},
            "evaluations": asdict(self._evaluations),
            "recent": {name: list(levels) for name, levels in self._recent.items()},
            "explained": self._explained,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """With another window than before, the past cannot be continued, and begins anew."""
        if state["window"] != self.settings.window:
            return
        self._trends = {name: Trend(**trend) for name, trend in state["trends"].items()}
        given = dict(state["evaluations"])
        given["open"] = [(gold, proxy) for gold, proxy in given["open"]]
        self._evaluations = Evaluations(**given)
        self._recent = {name: list(levels) for name, levels in state["recent"].items()}
        self._explained = bool(state["explained"])

    def _take_note(self, step: int, metrics: Mapping[str, float]) -> None:
        window = self.settings.window
        apart = [metrics[name] for name in disagreements(metrics)]
        known = {**metrics, _APART: max(apart)} if apart else metrics
        for name, trend in self._trends.items():
            if name in known and not (name == _FORESIGHT and step <= self._warmup):
                trend.add(known[name], window)
        gold, proxy = (metrics.get(name, math.nan) for name in ("reward/gold", "reward"))
        finite = math.isfinite(gold) and math.isfinite(proxy)
        self._evaluated = finite and self._evaluations.add(gold, proxy, window)

    def _changes(self, step: int, name: str, verdict: Verdict) -> list[Alarm]:
        before = self._level(name)
        # gold is judged once in a window: it needs no patience of its own
        kept = 1 if name == "gold" else self.settings.window
        self._recent[name] = [*self._recent[name], verdict.level][-kept:]
        now = self._level(name)
        if now == before:
            return []
        worse = _LEVELS.index(now) > _LEVELS.index(before)
        return [Alarm(step, name, now, before, verdict.value, verdict.sentence, REMEDY[name] if worse else "")]

    def _level(self, name: str) -> Level:
        return max(self._recent[name], key=_LEVELS.index, default="ok")

    def _explanations(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """A KL below 0 is explained once, where it is far enough below to be seen in two decimals."""
        kl = metrics.get("kl", 0.0)
        if self._explained or not kl < -0.005:
            return []
        self._explained = True
        sentence = f"KL came out at {kl:.2f} nats per answer, {BELOW_ZERO}."
        return [Alarm(step, "negative_kl", "note", "ok", kl, sentence, REMEDY["negative_kl"])]


Guard = Callable[[Alarms, Mapping[str, float]], Verdict | None]
"""What a guard says of the newest update; None where it has nothing to judge."""

_FORESIGHT = "value/explained_variance"
_APART = "disagreement"  # of the members of a term of the reward; of several terms the largest
_TRENDS = (
    "kl",
    "length",
    "policy/entropy",
    "truncated",
    _APART,
    "policy/clip_fraction",
    _FORESIGHT,
    "sampler_kl",
    "groups/flat",
)


def _kl(trend: Trend, settings: Guards) -> Verdict:
    limits = settings.kl
    sentence = f"KL is {trend.now:.1f} nats per answer{_over(settings)} ({_from(limits, 'g')})."
    return Verdict(level(trend.now, *limits), trend.now, sentence)


def _length(trend: Trend, settings: Guards) -> Verdict:
    limits = settings.length
    factor = trend.now / max(trend.start, 1e-9)
    sentence = (
        f"Answers have {trend.now:.0f} tokens{_over(settings)}: {factor:.2f} times the {trend.start:.0f} of the "
        f"first updates ({_from(limits, 'g')})."
    )
    return Verdict(level(factor, *limits), factor, sentence)


def _entropy(trend: Trend, settings: Guards) -> Verdict:
    limits = settings.entropy
    lost = 1 - trend.now / max(trend.start, 1e-9)
    sentence = (
        f"Entropy is {trend.now:.2f} nats per token{_over(settings)}: {abs(lost):.0%} "
        f"{'below' if lost > 0 else 'above'} the {trend.start:.2f} of the first updates ({_from(limits, '.0%')})."
    )
    return Verdict(level(lost, *limits), lost, sentence)


def _truncated(trend: Trend, settings: Guards) -> Verdict:
    limits = settings.truncated
    sentence = (
        f"{trend.now:.1%} of the answers are cut off at the token limit{_over(settings)} ({_from(limits, '.0%')})."
    )
    return Verdict(level(trend.now, *limits), trend.now, sentence)


def _disagreement(trend: Trend, settings: Guards) -> Verdict:
    limits = settings.disagreement
    factor = trend.now / max(trend.start, 1e-9)
    sentence = (
        f"The reward models are {trend.now:.2g} apart in their scores{_over(settings)}: {factor:.2f} times the "
        f"{trend.start:.2g} of the first updates ({_from(limits, 'g')})."
    )
    return Verdict(level(factor, *limits), factor, sentence)


def _clip_fraction(trend: Trend, settings: Guards) -> Verdict:
    limit = settings.clip_fraction
    sentence = f"{trend.now:.1%} of the tokens are clipped{_over(settings)} (amber from {limit:.0%})."
    return Verdict(level(trend.now, limit), trend.now, sentence)


def _explained_variance(trend: Trend, settings: Guards) -> Verdict:
    limit = settings.explained_variance
    sentence = (
        f"The critic explains {trend.now:.1%} of the variance of the returns{_over(settings)} "
        f"(amber below {limit:.0%})."
    )
    return Verdict("amber" if trend.now < limit else "ok", trend.now, sentence)


def _sampler_kl(trend: Trend, settings: Guards) -> Verdict:
    limit = settings.sampler_kl
    sentence = f"Sampler and trainer are {trend.now:.2g} nats per token apart{_over(settings)} (amber from {limit:g})."
    return Verdict(level(trend.now, limit), trend.now, sentence)


def _flat_groups(trend: Trend, settings: Guards) -> Verdict:
    limit = settings.flat_groups
    sentence = (
        f"{trend.now:.1%} of the prompts have answers that all score alike{_over(settings)} (amber from {limit:.0%})."
    )
    return Verdict(level(trend.now, limit), trend.now, sentence)


def _gold(alarms: Alarms, _: Mapping[str, float]) -> Verdict | None:
    """Gao et al. (2210.10760): gold that falls while the proxy rises is over-optimisation."""
    found, errors, window = alarms.evaluations, alarms.settings.gold, alarms.settings.window
    if found is None:
        return None
    now = found.gold[-1]
    if (best := found.best(3)) and found.fallen(3, errors, window):
        sentence = (
            f"The gold score has fallen to {now:.2f} from {best[0]:.2f}: it lies {errors:g} standard errors below its "
            "best for three evaluations."
        )
        return Verdict("red", now, sentence)
    if (best := found.best(2)) and found.fallen(2, errors, window) and fmean(found.proxy[-2:]) > best[1]:
        sentence = f"The gold score falls while the reward rises: {now:.2f}, and {best[0]:.2f} at its best."
        return Verdict("amber", now, sentence)
    return Verdict("ok", now, f"The gold score is {now:.2f}, no longer clearly below its best.")


def _finite(_: Alarms, metrics: Mapping[str, float]) -> Verdict | None:
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        return Verdict("red", None, f"{_listed(broken)} came out as no finite number.")
    skipped = sum(value for name, value in metrics.items() if name.endswith("/skipped"))
    if skipped:
        sentence = f"{skipped:.0f} optimizer steps were skipped, because the gradient was not finite."
        return Verdict("amber", skipped, sentence)
    return Verdict("ok", 0.0, "Every number is finite.")


def _of(metric: str, judge: Callable[[Trend, Guards], Verdict], windows: int = 1) -> Guard:
    """A guard over the trend of a metric, which says nothing before there were `windows` windows of values."""

    def guard(alarms: Alarms, _: Mapping[str, float]) -> Verdict | None:
        trend = alarms.trend(metric, windows * alarms.settings.window)
        return None if trend is None else judge(trend, alarms.settings)

    return guard


_GUARDS: Mapping[str, Guard] = {
    "finite": _finite,
    "kl": _of("kl", _kl),
    "gold": _gold,
    "length": _of("length", _length),
    "entropy": _of("policy/entropy", _entropy),
    "truncated": _of("truncated", _truncated),
    "disagreement": _of(_APART, _disagreement),
    "clip_fraction": _of("policy/clip_fraction", _clip_fraction),
    # the first window after the critic's warm-up is left out: a critic begins by knowing nothing
    "explained_variance": _of(_FORESIGHT, _explained_variance, windows=2),
    "sampler_kl": _of("sampler_kl", _sampler_kl),
    "flat_groups": _of("groups/flat", _flat_groups),
}


def _from(limits: tuple[float, float], shape: str) -> str:
    amber, red = limits
    return f"amber from {amber:{shape}}, red from {red:{shape}}"


def _over(settings: Guards) -> str:
    return f", the median of {settings.window} updates" if settings.window > 1 else ""


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
