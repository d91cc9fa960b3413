"""A run that a sweep ends before its last step: what was decided about it, in a file of its folder.

rungs.json    sweep, and rungs [{step, loss, goes_on}] in the order in which they were decided; once one does not go on,
the run ends after the step that it is at. Unlike a Stop that a person asks for it never ends an evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from peft_lab.errors import RunError
from peft_lab.runs import kept
from peft_lab.runs.store import Run, write_json

FILE = "rungs.json"


@dataclass(frozen=True)
class Rung:
    """A decision. ``step``: after how many; ``loss``: what the run was judged by there; ``goes_on``: the verdict."""

    step: int
    loss: float
    goes_on: bool


@dataclass(frozen=True)
class Verdicts:
    """All decisions of one sweep about a run."""

    sweep: str
    rungs: tuple[Rung, ...]

    @property
    def ended_by(self) -> Rung | None:
        return next((rung for rung in self.rungs if not rung.goes_on), None)


def note(run: Run, verdicts: Verdicts) -> None:
    """Raises OSError."""
    write_json(
        run.folder / FILE, {"sweep": verdicts.sweep, "rungs": [asdict(rung) for rung in verdicts.rungs]}
    )


def read(run: Run) -> Verdicts | None:
    """What was decided; ``None`` where nothing was, or where it cannot be read: then it is decided anew."""
    if not (run.folder / FILE).exists():
        return None
    try:
        content = kept.read_json(run.folder, FILE)
        rungs = tuple(Rung(int(e["step"]), float(e["loss"]), bool(e["goes_on"])) for e in content["rungs"])
        return Verdicts(str(content["sweep"]), rungs)
    except (RunError, KeyError, TypeError, ValueError):
        return None


def ended_by(run: Run) -> Rung | None:
    """The decision that ends the run, or has ended it."""
    verdicts = read(run)
    return None if verdicts is None else verdicts.ended_by


def forget_ending(folder: Path) -> None:
    """Whoever lets the run go on overrules the sweep; decisions to go on are kept. Raises OSError."""
    if ended_by(Run(folder.name, folder)) is not None:
        (folder / FILE).unlink(missing_ok=True)


def told(rung: Rung, taken: int, steps: int) -> str:
    """How the run ended, in a sentence."""
    return (
        f"Ended early by its sweep (ASHA) at the rung of step {rung.step}: {taken} of {steps} steps were taken; the "
        "adapter is saved as it was then."
    )
