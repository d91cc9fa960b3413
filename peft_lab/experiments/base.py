"""What an experiment is: a question, a few short runs that differ in one thing, and what is expected of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from peft_lab.experiments.quantities import Quantity
from peft_lab.runs.spec import RunRequest

Relation = Literal["above", "below", "near"]


@dataclass(frozen=True)
class Arm:
    """One run of an experiment. What is ``None`` is the experiment's own.

    Attributes:
        label: what sets it apart from the other arms, as it stands in a sentence: ``rank 1``.
        values: the knobs that are not at their defaults.
        method: a slug, where the arm is of another method (to compare with).
        settings: any other setting of the run (``weight_decay`` ...), by its name in :class:`RunRequest`.
    """

    label: str
    values: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    model: str | None = None
    task: str | None = None
    steps: int | None = None
    seed: int = 0
    learning_rate: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Expectation:
    """How the first quantity of one arm should stand to that of another, said before anything runs.

    Attributes:
        first, second: labels of arms.
        relation: ``above`` and ``below`` need a difference that is larger than ``margin`` and than chance; ``near``
            expects one that is not.
        margin: in the quantity's own unit, as :meth:`Quantity.read` gives it.
        reseeded: pairs of arms that differ in nothing but the seed. A difference has to be larger than theirs.
    """

    first: str
    relation: Relation
    second: str
    margin: float = 0.0
    reseeded: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A question that short runs settle.

    Attributes:
        id: unique among all experiments; starts with the method's slug.
        method: slug of the method on whose page it is shown.
        question: what the reader is to guess before running it.
        why: two sentences on what lies behind it, shown afterwards; true whichever way it came out.
        quantities: what is read off every run. The first is what the expectation is about and what is drawn.
        source: where the effect is described: a paper with its section, a benchmark.
        eval_rows: held-out rows. Few make chance large, many make it slow.
    """

    id: str
    method: str
    title: str
    question: str
    why: str
    arms: tuple[Arm, ...]
    quantities: tuple[Quantity, ...]
    expect: Expectation
    source: str
    model: str
    task: str
    steps: int = 60
    eval_rows: int | None = 500

    @property
    def quantity(self) -> Quantity:
        return self.quantities[0]

    def requests(self) -> tuple[RunRequest, ...]:
        """The runs in the order of the arms."""
        return tuple(self._request(arm) for arm in self.arms)

    def _request(self, arm: Arm) -> RunRequest:
        return RunRequest(
            model=arm.model or self.model,
            method=arm.method or self.method,
            task=arm.task or self.task,
            values=dict(arm.values),
            steps=self.steps if arm.steps is None else arm.steps,
            seed=arm.seed,
            learning_rate=arm.learning_rate,
            eval_rows=self.eval_rows,
            **arm.settings,
        )
