"""What comes of examining a model: held-out results, and answers to the learner's own sentences."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """What a model says to one probe. ``scores``: probability by label, empty for generated text."""

    text: str
    answer: str
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Held-out results of one model. ``metrics``: shares between 0 and 1 by name; ``loss`` per label or label token."""

    metrics: dict[str, float]
    loss: float
    rows: int
    seconds: float
