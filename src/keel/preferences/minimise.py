"""L-BFGS for smooth functions of many numbers (Nocedal & Wright, algorithm 7.5, with a backtracking search)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_MEMORY = 10
_SUFFICIENT = 1e-4  # Armijo's constant
_SHORTEST = 1e-12  # step, of the one that was proposed


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where the search ended; `converged` when every partial derivative is within the tolerance.

    Where rounding hides any further fall of the value, a thousand times the tolerance will do.
    """

    x: Float[np.ndarray, " P"]
    value: float
    steps: int
    converged: bool


def minimise(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: Float[np.ndarray, " P"],
    tolerance: float = 1e-6,
    limit: int = 2000,
) -> Minimum:
    """A local minimum of `function: x → (value, gradient)`; the value never rises from step to step."""
    x = start
    value, gradient = function(x)
    moves: list[tuple[np.ndarray, np.ndarray]] = []
    for step in range(limit):
        if np.abs(gradient).max(initial=0.0) <= tolerance:
            return Minimum(x, value, step, converged=True)
        steepest = not moves
        direction = -_times_inverse_hessian(gradient, moves)
        slope = float(direction @ gradient)
        size = min(1.0, 1 / float(np.abs(gradient).sum())) if steepest else 1.0
        while size >= _SHORTEST:
            next_x = x + size * direction
            next_value, next_gradient = function(next_x)
            if next_value <= value + _SUFFICIENT * size * slope:
                break
            size /= 2
        else:
            next_x, next_value, next_gradient = x, value, gradient
        moved, turned, fall = next_x - x, next_gradient - gradient, value - next_value
        x, value, gradient = next_x, next_value, next_gradient
        if fall <= 1e-15 * abs(value):
            if steepest:
                return Minimum(x, value, step + 1, converged=bool(np.abs(gradient).max() <= 1e3 * tolerance))
            moves = []  # the model of the curvature may be to blame: begin it anew
        elif moved @ turned > 1e-12 * (turned @ turned):  # only where the function is convex along the move
            moves = [*moves[-_MEMORY + 1 :], (moved, turned)]
    return Minimum(x, value, limit, converged=False)


def _times_inverse_hessian(gradient: np.ndarray, moves: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The two-loop recursion."""
    vector = gradient.copy()
    weights = []
    for moved, turned in reversed(moves):
        weight = (moved @ vector) / (moved @ turned)
        weights.append(weight)
        vector -= weight * turned
    if moves:
        moved, turned = moves[-1]
        vector *= (moved @ turned) / (turned @ turned)
    for (moved, turned), weight in zip(moves, reversed(weights), strict=True):
        vector += (weight - (turned @ vector) / (moved @ turned)) * moved
    return vector
