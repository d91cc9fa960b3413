"""Train's button against the clock: what is said of short runs of every method before they start, and what they take.

    python -m bench.expected_seconds [--rounds 2] [--steps 20] [--methods lora,ia3]

Measures the machine anew, then trains each method on the live model on which its page opens, rounds times, in a lab
folder of its own that is removed: the first round is said from the measurement alone, later ones are corrected by the
rounds before, and find the base scored. Run it on a machine that does nothing else; a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from peft_lab.methods import all_methods
from peft_lab.models.assets import store as assets
from peft_lab.runs import forecast, kept, store, waiting
from peft_lab.runs.forecast import run_work
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.workers import processes
from peft_lab.workers.inspector import get_pool

#: Where a method is taught on another model than the others.
_ENCODER = ("bitfit",)
MODELS = {True: ("minilm-l6", "sentiment"), False: ("smollm2-135m", "json")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--methods", default="")
    asked = parser.parse_args()
    slugs = asked.methods.split(",") if asked.methods else [slug for slug in all_methods() if slug != "full"]
    with tempfile.TemporaryDirectory(prefix="expected-") as name:
        _borrow(Path(name))
        processes.start_server()
        print(f"calibrated in {waiting.begin_calibrating().result()['seconds']:.1f} s")
        rows = [
            {"round": number, **_tried(slug, asked.steps)}
            for number in range(1, asked.rounds + 1)
            for slug in slugs
        ]
    for number in range(1, asked.rounds + 1):
        off = [abs(row["said"] / row["took"] - 1) for row in rows if row["round"] == number]
        print(f"round {number}: median error {median(off):.0%}, largest {max(off):.0%}, {len(off)} runs")


def _borrow(home: Path) -> None:
    """A lab folder with this one's weights and sentences, and nothing else."""
    for folder in ("models", "data"):
        (home / folder).mkdir()
        for each in (assets.home() / folder).glob("*"):
            (home / folder / each.name).symlink_to(each.resolve())
    os.environ["PEFT_LAB_HOME"] = str(home)


def _tried(slug: str, steps: int) -> dict[str, Any]:
    """One run: said, trained, and both printed, by part."""
    model, task = MODELS[slug in _ENCODER]
    spec = RunRequest(model=model, method=slug, task=task, steps=steps).complete()
    past = [store.summary(run) for run in store.runs()]
    before = forecast.forecast(get_pool().submit(0, run_work, spec.to_dict()).result(), spec, past)
    identity = get_queue().submit(spec)
    forecast.note(store.get(identity), before)
    get_queue().wait(identity)
    line = store.summary(store.get(identity))
    assert line.kept is not None and line.kept.took, line.problem
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in before.parts.items())
    print(f"{slug:9} {before.seconds:6.1f} s said, {line.kept.took:6.1f} s taken  (sum of {parts})")
    print(f"{'':9} measured: {_measured(store.get(identity))}", flush=True)
    return {"slug": slug, "said": before.seconds, "took": line.kept.took}


def _measured(run: store.Run) -> str:
    """Where the run's seconds went."""
    seen = run.events()
    when = {(event["type"], event.get("which")): event["time"] for event in reversed(seen)}
    scored = [event for event in seen if event["type"] == "evaluated" and not event.get("scored_by")]
    steps = [event["seconds"] for event in seen if event["type"] == "step"]
    ready, began, done = when["ready", None], when["starting", None], seen[-1]["time"]
    parts = {
        "loading": ready - began,
        "steps": sum(steps),
        **{f"scoring {event['which']}": event["seconds"] for event in scored},
    }
    parts["all else"] = done - began - sum(parts.values())
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())


if __name__ == "__main__":
    print(f"{kept.forecasts_file()}")
    main()
