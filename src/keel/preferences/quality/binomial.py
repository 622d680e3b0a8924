"""A share of n trials, how sure it is, and the exact test of ½; with the incomplete beta function they need.

    I_x(a, b) = ∫_0^x t^{a−1}(1−t)^{b−1} dt / B(a, b)        P(θ < x) for θ ~ Beta(a, b)
    θ | s successes of n ~ Beta(a + s, b + n − s)            with prior Beta(a, b)
    P(X ≥ k) = I_p(k, n − k + 1)                             for X ~ Binomial(n, p)

Source: NIST Digital Library of Mathematical Functions, 8.17 (8.17.5 the binomial sum, 8.17.22 the continued fraction).
"""

import math
from dataclasses import dataclass

JEFFREYS = (0.5, 0.5)
"""The prior whose equal-tailed interval covers a binomial share about as often as it says (Brown, Cai & DasGupta 2001,
Statistical Science 16)."""

_TINY = 1e-300  # stands in for a denominator of 0 (Lentz)
_CLOSE = 1e-15
_TERMS = 100_000  # about √max(a, b) are needed


def beta_cdf(x: float, a: float, b: float) -> float:
    """I_x(a, b) in [0, 1] for 0 ≤ x ≤ 1, to about 1e-13. Raises ValueError unless a, b > 0."""
    if not (a > 0 and b > 0 and 0 <= x <= 1):
        raise ValueError(f"I_x(a, b) at x = {x}, a = {a}, b = {b}: need a, b > 0 and 0 ≤ x ≤ 1")
    if x in (0, 1):
        return float(x)
    scale = math.exp(_log_power(x, a, b))
    if x < (a + 1) / (a + b + 2):
        return scale * _fraction(x, a, b) / a
    return 1 - scale * _fraction(1 - x, b, a) / b


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = `probability`: Newton's steps, halving where one would leave the bracket."""
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(200):
        gap = beta_cdf(x, a, b) - probability
        low, high = (low, x) if gap > 0 else (x, high)
        density = math.exp(_log_power(x, a, b)) / (x * (1 - x))
        following = x - gap / density if density > 0 else low
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - x) <= _CLOSE * x or not 0 < following < 1:
            break
        x = following
    return x


def two_sided(successes: int, trials: int) -> float:
    """The exact p-value of "each trial is a fair coin": P(|X − n/2| ≥ |s − n/2|) for X ~ Binomial(n, ½); 1 at n = 0."""
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} trials")
    further = max(successes, trials - successes)
    if 2 * further == trials:
        return 1.0
    return min(1.0, 2 * beta_cdf(0.5, float(further), float(trials - further + 1)))


@dataclass(frozen=True)
class Share:
    """`successes` of `trials`, with the equal-tailed interval of the posterior Beta(a, b).

    A success may be a fraction in [0, 1], as the mean over several comparisons of one trial: such a trial varies less
    than one of 0 or 1, and the interval is then on the wide side. The interval reaches 0 where nothing succeeded, and 1
    where everything did.
    """

    successes: float
    trials: int
    low: float
    high: float
    posterior: tuple[float, float]

    @property
    def value(self) -> float:
        """successes / trials, nan without trials."""
        return self.successes / self.trials if self.trials else math.nan

    def below(self, limit: float) -> float:
        """P(θ < limit | what was seen)."""
        return beta_cdf(limit, *self.posterior)


def share(successes: float | int, trials: int, level: float = 0.95, prior: tuple[float, float] = JEFFREYS) -> Share:
    """The share of successes with its interval at `level`; raises ValueError unless 0 ≤ successes ≤ trials."""
    if not 0 <= successes <= trials + 1e-9:
        raise ValueError(f"{successes} successes in {trials} trials")
    failures = max(trials - successes, 0.0)
    a, b = prior[0] + successes, prior[1] + failures
    tail = (1 - level) / 2
    low = beta_quantile(tail, a, b) if successes > 0 else 0.0
    high = beta_quantile(1 - tail, a, b) if failures > 0 else 1.0
    return Share(float(successes), trials, low, high, (a, b))


def _log_power(x: float, a: float, b: float) -> float:
    """log of x^a (1−x)^b / B(a, b)."""
    return math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of DLMF 8.17.22, by Lentz's method; quick for x < (a + 1)/(a + b + 2)."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or _TINY)
    result = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d or _TINY)
            c = 1 + term / c or _TINY
            result *= d * c
        if abs(d * c - 1) < _CLOSE:
            return result
    raise ArithmeticError(f"I_x(a, b) at x = {x}, a = {a}, b = {b} has not converged")
