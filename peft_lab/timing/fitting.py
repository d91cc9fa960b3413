"""Constants from measured steps: the least squares of relative errors, held near what is physically expected.

Levenberg and Marquardt's method on the logarithms of the constants (which keeps them positive), with Huber's weights
(1964, doi 10.1214/aoms/1177703732): a row that is far off counts by its distance, not by its square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from peft_lab.timing.kernels import CONSTANTS, Numbers, Speed, Table, step

#: Relative errors up to here count by their square.
_HUBER = 0.05
_ROUNDS, _SMALL = 30, 1e-3
_NUDGE = 1e-3


@dataclass(frozen=True)
class Measured:
    """A step that was measured: what was done at several lengths, how often each comes, and the mean seconds."""

    tables: tuple[Table, ...]
    weights: tuple[float, ...]
    seconds: float

    def predicted(self, speed: Speed) -> float:
        """Mean seconds at this speed."""
        return sum(w * step(table, speed) for w, table in zip(self.weights, self.tables, strict=True))


def fit(
    rows: Sequence[Measured], expected: Speed, doubt: Mapping[str, float], most: Mapping[str, float]
) -> Speed:
    """The constants that explain these rows best.

    Args:
        expected: where the search starts, and what a constant stays at that no row says anything about.
        doubt: how far each may be from that: to leave it by so much of a factor of e costs what a row's error of
            _HUBER costs.
        most: upper bounds of constants (what a data sheet says); lower ones are at a twentieth of what is expected.
    """
    start = np.log([getattr(expected, name) for name in CONSTANTS])
    upper = np.array([np.log(most.get(name, np.inf)) for name in CONSTANTS])
    lower = start - np.log(20)
    held = np.array([_HUBER / doubt[name] for name in CONSTANTS])

    def residuals(x: Numbers) -> Numbers:
        speed = Speed(*np.exp(x))
        return np.array([np.log(row.predicted(speed) / row.seconds) for row in rows])

    def cost(x: Numbers, errors: Numbers) -> float:
        size = np.abs(errors)
        huber = np.where(size <= _HUBER, size**2, 2 * _HUBER * size - _HUBER**2)
        return float(huber.sum() + ((held * (x - start)) ** 2).sum())

    x = np.clip(start, lower, upper)
    errors = residuals(x)
    best, damping = cost(x, errors), 1e-2
    for _ in range(_ROUNDS):
        slopes = np.stack(
            [(residuals(x + _NUDGE * unit) - errors) / _NUDGE for unit in np.eye(len(x))], axis=1
        )
        weights = np.minimum(1.0, _HUBER / np.maximum(np.abs(errors), 1e-12))
        normal = slopes.T @ (weights[:, None] * slopes) + np.diag(held**2)
        downhill = slopes.T @ (weights * errors) + held**2 * (x - start)
        before = best
        while damping < 1e6:
            moved = np.clip(
                x - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), downhill), lower, upper
            )
            found = residuals(moved)
            now = cost(moved, found)
            if now < best:
                x, errors, best, damping = moved, found, now, damping / 5
                break
            damping *= 4
        if before - best < _SMALL * before:
            break
    return Speed(*map(float, np.exp(x)))


def plain(speed: Speed) -> dict[str, float]:
    """For a file."""
    return asdict(speed)
