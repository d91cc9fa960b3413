"""Seconds from pressing Train to the first loss on disk, cold and warm.

    python -m bench.first_loss [--repeats 5]

Cold: the first run of a server that has just started, with the fork server still importing. Warm: every later one. The
runs are long enough for their memory to be tracked in a later step than the first, as in any run a learner makes.
"""

from __future__ import annotations

import argparse
import json
import statistics

from peft_lab.runs import store, training
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest

STEPS = training.TRACKED_STEP + 2
CASES = (
    ("minilm-l6", "sentiment", "lora"),
    ("smollm2-135m", "json", "lora"),
    ("smollm2-135m", "json", "qlora"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    out = {"cold": first_loss(RunRequest(*_spec(CASES[0]), steps=STEPS, eval_rows=0))}
    for case in CASES:
        times = [first_loss(RunRequest(*_spec(case), steps=STEPS, eval_rows=0)) for _ in range(repeats)]
        out[" ".join(case)] = statistics.median(times)
    print(json.dumps(out, indent=2))


def _spec(case: tuple[str, str, str]) -> tuple[str, str, str]:
    model, task, method = case
    return model, method, task


def first_loss(spec: RunRequest) -> float:
    """Submit a run and wait for it; the seconds until its first loss, then the run is deleted."""
    identity = get_queue().submit(spec)
    status = get_queue().wait(identity)
    seconds = store.get(identity).view().first_loss_after
    if seconds is None:
        raise SystemExit(f"the run {status}: {store.get(identity).view().message}")
    store.delete(identity)
    return seconds


if __name__ == "__main__":
    main()
