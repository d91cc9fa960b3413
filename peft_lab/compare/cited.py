"""The published comparison at 3B scale with the same names of figures as ours, so that both go on the same axes.

Two of them are not quite the same thing: a published peak is what the allocator reserved over the whole run, an
evaluation that generates included, where ours is the tensors of one training step; and each row is a single run.
Training time is that of the steps alone, as ours is; what else the runs took stands apart.
"""

from __future__ import annotations

from typing import Any

from peft_lab import published
from peft_lab.models.catalogue import get_model

#: Axes of :mod:`peft_lab.compare.pareto` that the published rows have, with what they are called there.
TITLES = {
    "metric_mean": "Test accuracy (GSM8K)",
    "trainable": "Trained parameters",
    "stored_bytes": "Stored size",
    "peak_bytes": "Peak reserved memory of the run",
    "seconds": "Training time",
}


def rows() -> list[dict[str, Any]]:
    """One row for each published experiment: method (the experiment), title, and the figures of ``TITLES``."""
    return [
        {
            "method": row.experiment,
            "title": row.title,
            "metric_mean": row.accuracy,
            "trainable": row.trainable,
            "percent": 100 * row.trainable / row.total,
            "stored_bytes": row.stored,
            "peak_bytes": row.reserved,
            "seconds": row.seconds,
            "testing": row.testing,
            "evaluating": row.evaluating,
        }
        for row in published.rows().values()
    ]


def heading() -> str:
    """What was trained there."""
    return f"{get_model(published.MODEL).title}, MetaMathQA"
