"""Train's button against the clock: what is said of a run of every method before it starts, and what it takes.

    python -m bench.expected_seconds [--rounds 3] [--steps 20] [--methods lora,ia3] [--unwatched]

Measures the machine anew, then trains each method on the live model on which its page opens, rounds times, in a lab
folder of its own that is removed: the first round is said from the measurement alone, later ones are corrected by the
rounds before, and find the base scored. Runs are those of the pages' buttons: the default steps, and a sentence of the
learner's, so that the answer is asked for along the run. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from peft_lab.core import disk, processes
from peft_lab.core.inspector import get_pool
from peft_lab.methods import all_methods
from peft_lab.runs import forecast, kept, store, waiting
from peft_lab.runs.forecast import run_work
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.training import tasks

#: Where a method is taught on another model than the others.
_ENCODER = ("bitfit",)
MODELS = {True: ("minilm-l6", "sentiment"), False: ("smollm2-135m", "json")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="default: each method's own")
    parser.add_argument("--methods", default="")
    parser.add_argument("--unwatched", action="store_true", help="without a learner's sentence")
    asked = parser.parse_args()
    slugs = asked.methods.split(",") if asked.methods else [slug for slug in all_methods() if slug != "full"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="expected-") as name:
        _borrow(Path(name))
        processes.start_server()
        print(f"calibrated in {waiting.begin_calibrating().result()['seconds']:.1f} s")
        for number in range(1, asked.rounds + 1):
            rows += [{"round": number, **_tried(slug, asked.steps, not asked.unwatched)} for slug in slugs]
            off = [abs(row["said"] / row["took"] - 1) for row in rows if row["round"] == number]
            print(f"round {number}: median error {median(off):.0%}, largest {max(off):.0%}, {len(off)} runs")
            print(table(rows), flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the runs as a table in Markdown, a line a method, with every round's forecast, time, and their ratio."""
    count = max(row["round"] for row in rows)
    head = " | ".join(f"forecast, taken, ratio, round {number}" for number in range(1, count + 1))
    lines = [f"| method | score seen | {head} |", "|---|---|" + "---|" * count]
    for slug in dict.fromkeys(row["slug"] for row in rows):
        mine = [row for row in rows if row["slug"] == slug]
        cells = [f"{row['said']:.1f}, {row['took']:.1f}, {row['said'] / row['took']:.2f}" for row in mine]
        seen = ", ".join(f"{row['verdict']:.1f}" for row in mine)
        lines.append(f"| {slug} | {seen} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _borrow(home: Path) -> None:
    """A lab folder with this one's weights and sentences, and nothing else."""
    for folder in ("models", "data"):
        (home / folder).mkdir()
        for each in (disk.home() / folder).glob("*"):
            (home / folder / each.name).symlink_to(each.resolve())
    os.environ["PEFT_LAB_HOME"] = str(home)


def _tried(slug: str, steps: int | None, watched: bool) -> dict[str, Any]:
    """One run: said, trained, and both printed, by part. ``verdict``: seconds from the press to the tuned score."""
    model, task = MODELS[slug in _ENCODER]
    probes = (tasks.get_task(task).load().test[0].text,) if watched else ()
    spec = RunRequest(model=model, method=slug, task=task, steps=steps, probes=probes).complete()
    past = [store.summary(run) for run in store.runs()]
    before = forecast.forecast(get_pool().submit(0, run_work, spec.to_dict()).result(), spec, past)
    pressed = time.time()
    identity = get_queue().submit(spec)
    forecast.note(store.get(identity), before)
    get_queue().wait(identity)
    line = store.summary(store.get(identity))
    assert line.kept is not None and line.kept.took, line.problem
    seen = store.get(identity).events()
    scored = next(
        event["time"] for event in seen if event["type"] == "evaluated" and event["which"] == "tuned"
    )
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in before.parts.items())
    print(f"{slug:9} {before.seconds:6.1f} s said, {line.kept.took:6.1f} s taken  (sum of {parts})")
    print(f"{'':9} measured: {_measured(store.get(identity))}, load {os.getloadavg()[0]:.0f}", flush=True)
    return {"slug": slug, "said": before.seconds, "took": line.kept.took, "verdict": scored - pressed}


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
