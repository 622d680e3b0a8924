"""Many tests at once: adjusted so that of those who are named, few are named by chance."""

from collections.abc import Mapping


def adjusted(p: Mapping[str, float]) -> dict[str, float]:
    """Benjamini & Hochberg's adjusted p-values, by name.

        p*_(i) = min_{j ≥ i} min(1, p_(j)·m/j)        p_(1) ≤ … ≤ p_(m) the sorted p-values

    Naming all with p* ≤ q keeps the expected share of false names among those named at or below q, for independent
    tests; the chance that anybody is named where all hypotheses are true is then at most q. Source: Benjamini &
    Hochberg (1995), Journal of the Royal Statistical Society B 57; the adjusted form is Yekutieli & Benjamini's (1999).
    """
    if any(not 0 <= value <= 1 for value in p.values()):
        raise ValueError(f"p-values {sorted(p.values())}: must lie between 0 and 1")
    best, result = 1.0, {}
    order = sorted(p, key=lambda name: p[name])
    for place in range(len(order), 0, -1):
        name = order[place - 1]
        best = min(best, p[name] * len(order) / place)
        result[name] = best
    return {name: result[name] for name in p}
