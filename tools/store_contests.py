"""Train what settles the predictions that need training, and keep the figures with the app.

    python -m tools.store_contests --note "two cores shared with other work"

Finished runs of the same settings in PEFT_LAB_HOME are used again. Writes ``peft_lab/interview/stored.json``; commit
it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from peft_lab.core.machine import describe_machine
from peft_lab.interview.predictions import STORED, Contest, Prediction, all_predictions, decide_records
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import Status
from peft_lab.studies import experiments

TARGET = STORED
LOOK = 1.0  # seconds between looks at a run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--note", default="", help="how it was measured, for the reader")
    asked = parser.parse_args(arguments)
    found = {name: kept(each, asked.note) for name, each in all_predictions().items() if each.trains}
    TARGET.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    print(TARGET)
    return 0


def kept(prediction: Prediction, note: str) -> dict[str, Any]:
    """What is kept of one contest. Raises :class:`BadInput` for a run that did not finish."""
    contest = prediction.experiment
    assert isinstance(contest, Contest)
    records = [_record(spec.complete()) for spec in contest.runs]
    outcome = decide_records(prediction, records)
    print(prediction.id, [figure.shown for figure in outcome.figures], prediction.options[outcome.right])
    packages = records[-1]["packages"]
    machine = describe_machine()
    where = f"{machine['cores']} cores of {machine['processor']}"
    measured = f"{datetime.now(UTC):%Y-%m-%d}, {where}, torch {packages['torch']}, peft {packages['peft']}"
    return {
        "values": [figure.value for figure in outcome.figures],
        "measured": f"{measured}, {note}" if note else measured,
        "runs": [spec.to_dict() for spec in contest.runs],
        "complete": [spec.complete().to_dict() for spec in contest.runs],
    }


def _record(spec: RunSpec) -> dict[str, Any]:
    found = experiments.run_of(spec, store.summaries())
    if found and found.status == Status.DONE:
        return store.get(found.id).record()
    run = store.get(get_queue().submit(spec))
    while not run.view().status.final:
        time.sleep(LOOK)
    return run.record()


if __name__ == "__main__":
    sys.exit(main())
