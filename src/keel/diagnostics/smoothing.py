"""A noisy series made readable."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def smooth(values: Float[np.ndarray, " N"], width: float) -> Float[np.ndarray, " N"]:
    """Mean of the neighbours, weighted by a Gaussian of standard deviation `width` steps.

        s_i = Σ_j w_ij·x_j / Σ_j w_ij,   w_ij = exp(−(i − j)²/2·width²)

    At the ends the weights are those of the neighbours that there are, so a constant stays what it is.
    """
    reach = min(len(values), int(4 * width) + 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    weight = np.convolve(np.ones(len(values)), kernel, mode="full")[reach : reach + len(values)]
    total = np.convolve(values, kernel, mode="full")[reach : reach + len(values)]
    return np.asarray(total / weight)


def running_mean(values: Float[np.ndarray, " N"], window: int) -> Float[np.ndarray, " M"]:
    """Means of `window` neighbours, M = N − window + 1 of them; of all the values where there are fewer."""
    window = min(window, len(values))
    sums = np.cumsum(np.concatenate(([0.0], values)))
    return np.asarray((sums[window:] - sums[:-window]) / window)
