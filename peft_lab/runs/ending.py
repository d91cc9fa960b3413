"""End a run: write its record and its papers, then its final event."""

from __future__ import annotations

import time

from peft_lab.core import disk
from peft_lab.runs import checkpoints, kept, record
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.takeaway.bundle import write_papers


def end_run(run: Run, ending: str, message: str) -> None:
    """Write record and model card, then the final event: whoever reads that a run has ended finds both.

    Raises what :func:`~peft_lab.takeaway.bundle.write_papers` raises, after the run has been ended.
    """
    last = {"type": ending, "time": time.time(), "message": message}
    found = record.result(run, [last])
    disk.write_json(run.folder / kept.RECORD, found)
    try:
        write_papers(run)
    finally:
        # hashed after the papers are written, and before the ending is told
        disk.write_json(run.folder / kept.RECORD, {**found, "files": kept.file_hashes(run.folder)})
        run.log.emit(ending, message=message)
        if ending == Status.DONE:
            checkpoints.clear(run.folder)
