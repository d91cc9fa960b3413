"""Published peaks of real trainings, and the same trainings simulated: how far the simulation can be trusted.

The rows are those of the PEFT library's method comparison; how they were taken, and so how they are simulated, is told
in :mod:`peft_lab.memory.protocol`. ``simulated.json`` keeps what :func:`simulate` says, so that a page shows all rows
at once.

The comparison's own "train_time" is the time of the steps and of the test after them together: methods that answer
slowly look slow to train. Here the two are apart.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from peft_lab.errors import SimulationError, UnknownName
from peft_lab.memory.result import Simulation

MODEL = "llama-3.2-3b"
SOURCE = "PEFT library, method comparison on MetaMathQA (Apache-2.0)"
ADDRESS = "https://github.com/huggingface/peft/tree/main/method_comparison/MetaMathQA"
DATA = "metamath_llama32_3b.jsonl"
RESULTS = "simulated.json"
#: Rows that the PEFT of today would not run as they were run, and why: they are shown and counted, not simulated.
SUPERSEDED = {
    "osf--llama-3.2-3B-rank128": "It was run with a PEFT before 0.21, whose OSF kept and multiplied both halves of "
    "every matrix; PEFT now multiplies the low half alone."
}
_PREFIX = "--llama-3.2-3B-"


@dataclass(frozen=True)
class PublishedRow:
    """One published experiment.

    Attributes:
        experiment: as its result file is called.
        reserved: the most that PyTorch's allocator held, in bytes.
        batch: rows of a training step.
        config: the PEFT config it was run with; ``None`` for full fine-tuning.
        trainable: parameters. accuracy: on the test set, 0 to 1.
        seconds: of all training steps, added up; nothing else is in it.
        testing: what the published "train_time" adds to them, in seconds: the answers generated for the final test,
            and what little lies between the steps.
        evaluating: seconds of the evaluations during the training, which no published time contains.
        total: parameters of the adapted model. stored: bytes of the saved adapter.
    """

    experiment: str
    reserved: int
    batch: int
    config: Mapping[str, Any] | None
    trainable: int
    seconds: float
    testing: float
    evaluating: float
    accuracy: float
    total: int
    stored: int

    @property
    def title(self) -> str:
        """'lora--llama-3.2-3B-rank32' -> 'lora, rank32'."""
        kind, _, variant = self.experiment.partition(_PREFIX)
        return kind if variant in ("", "default") else f"{kind}, {variant}"


@dataclass(frozen=True)
class PublishedOutcome:
    """What the simulation says of a row: bytes, or why it could not be simulated."""

    reserved: int | None
    tensors: int | None
    reason: str = ""

    @classmethod
    def of(cls, simulation: Simulation) -> PublishedOutcome:
        return cls(simulation.reserved_bytes, simulation.peak_bytes)


@dataclass(frozen=True)
class Agreement:
    """How far simulated and published are apart, in percent of the published figure, over ``ran`` of ``rows`` rows."""

    rows: int
    ran: int
    median: float
    largest: float


@cache
def rows() -> dict[str, PublishedRow]:
    """All published rows by experiment."""
    text = (resources.files(__package__) / DATA).read_text("utf-8")
    found = (_read(json.loads(line)) for line in text.splitlines())
    return {row.experiment: row for row in found}


def _read(row: Mapping[str, Any]) -> PublishedRow:
    return PublishedRow(
        experiment=row["experiment"].replace("/", "--"),
        reserved=row["peak_reserved_bytes"],
        batch=row["batch"],
        config=row["adapter_config"],
        trainable=row["trainable"],
        seconds=row["stepping_seconds"],
        testing=row["headline_seconds"] - row["stepping_seconds"],
        evaluating=sum(row["eval_seconds_by_interval"]),
        accuracy=row["test"],
        total=row["total"],
        stored=row["adapter_file_bytes"],
    )


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


def simulate(experiment: str) -> Simulation:
    """Simulate one row under its protocol. Imports torch; pages ask this of another process.

    Raises:
        UnknownName: no such row. SimulationError: it cannot be simulated, with the reason.
    """
    from peft_lab.memory import protocol

    if experiment not in rows():
        raise UnknownName("published row", experiment, rows(), "experiment")
    if experiment in SUPERSEDED:
        raise SimulationError(SUPERSEDED[experiment])
    row = rows()[experiment]
    return protocol.published(MODEL, row.config, row.batch)


def error(row: PublishedRow, outcome: PublishedOutcome) -> float | None:
    """Simulated against published in percent, positive where the simulation says more."""
    return None if outcome.reserved is None else 100 * (outcome.reserved / row.reserved - 1)


def agreement(errors: Iterable[float | None]) -> Agreement:
    """Over all rows. Raises ValueError when none of them ran."""
    given = list(errors)
    sizes = [abs(one) for one in given if one is not None]
    return Agreement(len(given), len(sizes), statistics.median(sizes), max(sizes))
