"""What keeping a run's state costs: seconds of training and bytes on disk, from the run's own events.

    python -m bench.checkpoints [--steps 60]

``share``: of all the time between the first step's beginning and the last step's end.
"""

from __future__ import annotations

import argparse
import json

from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest

CASES = (
    ("minilm-l6", "lora", "sentiment"),
    ("minilm-l6", "full", "sentiment"),
    ("smollm2-135m", "lora", "json"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    print(json.dumps([cost(RunRequest(*case, steps=steps, eval_rows=0)) for case in CASES], indent=2))


def cost(spec: RunRequest) -> dict[str, object]:
    """Train and delete a run; what its states took."""
    identity = get_queue().submit(spec)
    get_queue().wait(identity)
    events = store.get(identity).events()
    store.delete(identity)
    kept = [event for event in events if event["type"] == "checkpoint"]
    steps = [event for event in events if event["type"] == "step"]
    if not kept:
        raise SystemExit(f"the run kept no state: {events[-1].get('message')}")
    spent = sum(event["seconds"] for event in kept)
    return {
        "model": spec.model,
        "method": spec.method,
        "kept_after_steps": [event["step"] for event in kept],
        "bytes": kept[-1]["bytes"],
        "seconds": spent,
        "share": spent / (max(kept[-1]["time"], steps[-1]["time"]) - steps[0]["time"] + steps[0]["seconds"]),
    }


if __name__ == "__main__":
    main()
