"""Published peaks of real trainings, and the same trainings simulated: how far the simulation can be trusted.

The rows are those of the PEFT library's method comparison (:mod:`peft_lab.engine.published.rows`); how those of
MetaMathQA were taken, and so how they are simulated, is told in :mod:`peft_lab.engine.protocol`. ``simulated.json``
keeps what
:func:`simulate` says, so that a page shows all rows at once.

The comparison's own "train_time" is the time of the steps and of the test after them together: methods that answer
slowly look slow to train. Here the two are apart.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from peft_lab.core.errors import SimulationError, UnknownName
from peft_lab.engine.published.rows import BENCHMARKS, IMAGE, METAMATH, Moved, PublishedRow, moved, rows
from peft_lab.engine.request import Simulation

if TYPE_CHECKING:
    from peft_lab.methods.counting.count import CountReport

__all__ = ["BENCHMARKS", "IMAGE", "METAMATH", "Moved", "PublishedRow", "moved", "rows"]

MODEL = "llama-3.2-3b"
RESULTS = "simulated.json"
SOURCE, ADDRESS = BENCHMARKS[METAMATH].source, BENCHMARKS[METAMATH].address
#: Rows that the PEFT of today would not run as they were run, and why. They were simulated with the layer of then, by
#: ``tools.simulate_superseded``; that outcome is kept.
SUPERSEDED = {
    "osf--llama-3.2-3B-rank128": "It was run with a PEFT before 0.21, whose OSF kept and multiplied both halves of "
    "every matrix; PEFT now multiplies the low half alone."
}


@dataclass(frozen=True)
class PublishedOutcome:
    """What the simulation says of a row: bytes, or why it could not be simulated. ``note``: what else was done."""

    reserved: int | None
    tensors: int | None
    reason: str = ""
    note: str = ""

    @classmethod
    def of(cls, simulation: Simulation) -> PublishedOutcome:
        """Return the outcome of a simulation that went through, in bytes."""
        return cls(simulation.reserved_bytes, simulation.peak_bytes)


@dataclass(frozen=True)
class Agreement:
    """How far simulated and published are apart, in percent of the published figure, over ``ran`` of ``rows`` rows."""

    rows: int
    ran: int
    median: float
    largest: float


@cache
def simulated() -> dict[str, PublishedOutcome]:
    """The kept outcome of each row, by experiment."""
    kept = json.loads((resources.files(__package__) / RESULTS).read_text("utf-8"))
    return {experiment: PublishedOutcome(**outcome) for experiment, outcome in kept["rows"].items()}


@cache
def simulated_with() -> dict[str, str]:
    """Versions of the libraries that the kept outcomes were made with."""
    kept = json.loads((resources.files(__package__) / RESULTS).read_text("utf-8"))
    return dict(kept["packages"])


def simulate(experiment: str, superseded: bool = False) -> Simulation:
    """Simulate one row under its protocol. Imports torch; pages ask this of another process.

    ``superseded``: although the PEFT of today would run it in another way.

    Raises:
        UnknownName: no such row. SimulationError: it cannot be simulated, with the reason.
    """
    from peft_lab.engine import protocol

    row = _known(experiment)
    if experiment in SUPERSEDED and not superseded:
        raise SimulationError(SUPERSEDED[experiment])
    return protocol.published(MODEL, row.config, row.batch)


def count(experiment: str) -> CountReport:
    """Count what one row trained, without weights. Imports torch; pages ask this of another process.

    LoRA-FA is an optimizer that freezes A, which the adapter config does not say.

    Raises:
        UnknownName: no such row. BadInput: PEFT cannot build it, with the reason.
    """
    from peft_lab.methods.counting import count as counting

    row = _known(experiment)
    if row.config is None:
        return counting.count(MODEL, "full", {})
    report = counting.count_config(MODEL, row.config)
    frozen = report.lora_fa if row.optimizer == "lora-fa" else None
    return report if frozen is None else replace(report, trainable=frozen)


def _known(experiment: str) -> PublishedRow:
    if experiment not in rows():
        raise UnknownName("published row", experiment, rows(), "experiment")
    return rows()[experiment]


def error(row: PublishedRow, outcome: PublishedOutcome) -> float | None:
    """Simulated against published in percent, positive where the simulation says more."""
    return None if outcome.reserved is None else 100 * (outcome.reserved / row.reserved - 1)


def agreement(errors: Iterable[float | None]) -> Agreement:
    """Over all rows. Raises ValueError when none of them ran."""
    given = list(errors)
    sizes = [abs(one) for one in given if one is not None]
    return Agreement(len(given), len(sizes), statistics.median(sizes), max(sizes))
