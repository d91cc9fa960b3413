"""``--track``: runs of a command also go to MLflow or trackio, and what became of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from peft_lab.cli import output
from peft_lab.runs.store import Run
from peft_lab.tracking import several, start, wanted


def _switched_on(text: str | None) -> str | None:
    wanted.switch_on((text or "").split(","))
    return text


Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="NAMES",
        callback=_switched_on,
        help="Also tell mlflow, trackio or both (a,b) of each run; PEFT_LAB_TRACK does so everywhere.",
    ),
]


def tell(run: Run) -> None:
    """Wait until the trackers have all of an ended run, and say where it stands, or why it does not."""
    for told in start.wait(run, wanted.of(run)):
        output.note(told.sentence())


def tell_of_all(runs: Sequence[Run]) -> None:
    """The same of the runs of a comparison or a sweep, one sentence a tracker."""
    for one in several.waited_for(runs, start.PATIENCE if wanted.names() else 0.0):
        output.note(one.sentence())
