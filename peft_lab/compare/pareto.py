"""Axes on which methods can be set against each other, and the front: those that no other beats on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from peft_lab.errors import UnknownName
from peft_lab.units import Source


@dataclass(frozen=True)
class Axis:
    """One figure of a row.

    Attributes:
        name: the row's field.
        title: what stands at the axis; ``{metric}`` and ``{unit}`` are filled in.
        unit: as :func:`peft_lab.units.show` takes it.
        better: which end is wanted.
        source: where the figure comes from.
    """

    name: str
    title: str
    unit: str
    better: Literal["low", "high"]
    source: Source


AXES = {
    axis.name: axis
    for axis in (
        Axis("metric_mean", "{metric}", "share", "high", Source.MEASURED),
        Axis("trainable", "Trained parameters", "parameters", "low", Source.COUNTED),
        Axis("stored_bytes", "Stored size", "bytes", "low", Source.MEASURED),
        Axis("peak_bytes", "Peak memory of a step", "bytes", "low", Source.MEASURED),
        Axis("seconds", "Training time", "seconds", "low", Source.MEASURED),
        Axis("added_seconds", "Added inference time per {unit}", "seconds", "low", Source.MEASURED),
        Axis("forgetting_change", "Rise of the loss on unrelated text", "nats/token", "low", Source.MEASURED),
    )
}
DEFAULT = ("trainable", "metric_mean")


def get_axis(name: str) -> Axis:
    """Raises UnknownName."""
    if name not in AXES:
        raise UnknownName("axis", name, AXES, "axes")
    return AXES[name]


def front(rows: Sequence[Mapping[str, Any]], x: str | Axis, y: str | Axis) -> list[str]:
    """Methods that no other equals on both axes and beats on one, in the order of ``x``. Rows that lack one of the
    figures do not take part.

    Raises:
        UnknownName: no such axis.

    >>> rows = [
    ...     {"method": "lora", "trainable": 100, "metric_mean": 0.9},
    ...     {"method": "ia3", "trainable": 10, "metric_mean": 0.8},
    ...     {"method": "prompt", "trainable": 20, "metric_mean": 0.7},  # IA3 is smaller and better
    ... ]
    >>> front(rows, "trainable", "metric_mean")
    ['ia3', 'lora']
    """
    axes = [axis if isinstance(axis, Axis) else get_axis(axis) for axis in (x, y)]
    points = {
        str(row["method"]): tuple(row[axis.name] * (1 if axis.better == "low" else -1) for axis in axes)
        for row in rows
        if all(row.get(axis.name) is not None for axis in axes)
    }
    kept = [
        name
        for name, point in points.items()
        if not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in points.values()
        )
    ]
    return sorted(kept, key=lambda name: points[name])
