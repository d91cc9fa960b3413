"""Scores shared by the tasks whose answer is a label."""

from __future__ import annotations

from collections.abc import Sequence

from peft_lab.tasks.base import Row, check_paired


def label_scores(predictions: Sequence[str], rows: Sequence[Row], labels: Sequence[str]) -> dict[str, float]:
    """``accuracy``, and ``macro_f1``: F1 of each of ``labels`` that occurs in a target or prediction, averaged.

    A prediction that is none of the labels is a wrong answer. Raises ValueError as :meth:`Task.score` does.
    """
    check_paired(predictions, rows)
    targets = [row.target for row in rows]
    hits = [guess for guess, target in zip(predictions, targets, strict=True) if guess == target]
    f1 = [
        2 * hits.count(label) / seen
        for label in labels
        if (seen := predictions.count(label) + targets.count(label))
    ]
    return {"accuracy": len(hits) / len(rows), "macro_f1": sum(f1) / len(f1)}
