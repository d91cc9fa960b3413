"""Run the experiments by which a later finding can be seen, and keep what they showed:

    PEFT_LAB_HOME=/some/folder python -m tools.see_since [EXPERIMENT...]

Without a name it runs those of every finding. What was trained before is not trained again; what is not named is kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from peft_lab.core.machine import describe_machine
from peft_lab.interview import since
from peft_lab.interview.claims import kept_versions
from peft_lab.interview.since import all_discoveries
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status
from peft_lab.studies import experiments
from peft_lab.studies.experiments import Experiment, all_experiments


def main(names: Sequence[str]) -> None:
    known = {experiment.id: experiment for experiment in all_experiments()}
    wanted = names or sorted({each.experiment for each in all_discoveries() if each.experiment})
    for name in wanted:
        kept: dict[str, Any] = (
            json.loads(since.SEEN_FILE.read_text("utf-8")) if since.SEEN_FILE.exists() else {}
        )
        kept[name] = _seen(known[name])
        print(f"{name}: {kept[name]['text']}", flush=True)
        content = {each: kept[each] for each in sorted(kept)}
        since.SEEN_FILE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _seen(experiment: Experiment) -> dict[str, Any]:
    """The experiment's conclusion from finished runs; those that are missing are trained one after another."""
    outcomes = []
    for request in experiment.requests():
        spec = request.complete()
        line = experiments.run_of(spec, store.summaries())
        if line is None or line.status != Status.DONE:
            queue = get_queue()
            identity = queue.submit(spec)
            ended = queue.wait(identity)
            if ended is not Status.DONE:
                raise SystemExit(
                    f"{experiment.id}: a run ended as {ended}: {store.get(identity).view().message}"
                )
        else:
            identity = line.id
        outcomes.append(experiments.outcome_of(store.get(identity)))
    readings = [
        experiments.read_results(experiment, arm.label, outcome)
        for arm, outcome in zip(experiment.arms, outcomes, strict=True)
    ]
    found = experiments.conclude(experiment, readings, outcomes)
    here = describe_machine()
    return {
        "text": found.text,
        "holds": found.holds,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{here['cores']} cores of {here['processor']} ({here['system']}, Python {here['python']})",
        "packages": kept_versions(),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
