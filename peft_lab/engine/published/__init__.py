"""Published peaks of real training runs beside simulations of the same runs: how far the simulation can be trusted.

The rows come from the PEFT library's method comparison (:mod:`peft_lab.engine.published.rows`);
:mod:`peft_lab.engine.protocol` describes how those of MetaMathQA were measured and are simulated. ``simulated.json``
stores the results of :func:`simulate`, so that a page shows all rows at once.

The comparison's own "train_time" is the time of the steps and of the test after them together: methods that answer
slowly appear slow to train. Here the two are separate.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from peft_lab.core import disk
from peft_lab.core.errors import SimulationError, UnknownName
from peft_lab.engine.published.rows import BENCHMARKS, IMAGE, METAMATH, Moved, PublishedRow, moved, rows
from peft_lab.engine.request import Simulation

if TYPE_CHECKING:
    from peft_lab.methods.counting.count import CountReport

__all__ = ["BENCHMARKS", "IMAGE", "METAMATH", "Moved", "PublishedRow", "moved", "rows"]

MODEL = "llama-3.2-3b"
RESULTS = "simulated.json"
SOURCE, ADDRESS = BENCHMARKS[METAMATH].source, BENCHMARKS[METAMATH].address
#: Rows that today's PEFT would run differently, and why. ``tools.simulate_superseded`` simulated them with the layer as
#: it was then; that outcome is stored.
SUPERSEDED = {
    "osf--llama-3.2-3B-rank128": "It was run with a PEFT before 0.21, whose OSF kept and multiplied both halves of "
    "every matrix; PEFT now multiplies the low half alone."
}


@dataclass(frozen=True)
class PublishedOutcome:
    """The simulation's result for a row: bytes, or why it could not be simulated. ``note``: how it was simulated."""

    reserved: int | None
    tensors: int | None
    reason: str = ""
    note: str = ""

    @classmethod
    def of(cls, simulation: Simulation) -> PublishedOutcome:
        """Return the outcome of a successful simulation, in bytes."""
        return cls(simulation.reserved_bytes, simulation.peak_bytes)


@dataclass(frozen=True)
class Agreement:
    """How far simulated and published figures differ, in percent of the latter, over ``ran`` of ``rows`` rows."""

    rows: int
    ran: int
    median: float
    largest: float


@cache
def simulated() -> dict[str, PublishedOutcome]:
    """Return the stored outcome of each row, by experiment."""
    kept = disk.read_json(Path(__file__).with_name(RESULTS))
    return {experiment: PublishedOutcome(**outcome) for experiment, outcome in kept["rows"].items()}


@cache
def simulated_with() -> dict[str, str]:
    """Return the versions of the libraries that made the stored outcomes."""
    kept = disk.read_json(Path(__file__).with_name(RESULTS))
    return dict(kept["packages"])


def simulate(experiment: str, superseded: bool = False) -> Simulation:
    """Simulate one row under its protocol. Imports torch; pages call this in another process.

    ``superseded``: simulate the row even if today's PEFT would run it differently.

    Raises:
        UnknownName: no such row. SimulationError: it cannot be simulated, with the reason.
    """
    from peft_lab.engine import protocol

    row = _known(experiment)
    if experiment in SUPERSEDED and not superseded:
        raise SimulationError(SUPERSEDED[experiment])
    return protocol.published(MODEL, row.config, row.batch)


def count(experiment: str) -> CountReport:
    """Count what one row trained, without weights. Imports torch; pages call this in another process.

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
    """Return the simulated figure against the published one in percent, positive if the simulation is higher."""
    return None if outcome.reserved is None else 100 * (outcome.reserved / row.reserved - 1)


def agreement(errors: Iterable[float | None]) -> Agreement:
    """Return the agreement over all rows. Raises ValueError if none of them ran."""
    given = list(errors)
    sizes = [abs(one) for one in given if one is not None]
    return Agreement(len(given), len(sizes), statistics.median(sizes), max(sizes))
