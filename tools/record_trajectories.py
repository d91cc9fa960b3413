"""Record the trajectories that come with the app: a real run of each method, every state and answer of it.

    python -m tools.record_trajectories [--steps N] [--share PART] [NAME ...]

Each run is kept in ``PEFT_LAB_HOME/runs`` like any other; its ``trajectory.json`` is copied to
``peft_lab/drawing/trajectory/data/<name>.json``. A name is a method, on the model that its page begins with, or a
method, a dot, and another model.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from peft_lab.drawing.trajectory.format import FILE_BYTES, SHIPPED_DATA, Budget
from peft_lab.methods.base import STEPS
from peft_lab.runs import child, kept, store, training
from peft_lab.runs.spec import RunRequest

ENCODER, DECODER, IMAGES = ("minilm-l6", "tags"), ("smollm2-135m", "json"), ("dinov2-small", "digits")
RUNS = {
    "lora": DECODER,
    "qlora": DECODER,
    "prefix": DECODER,
    "prompt": ENCODER,
    "ptuning": ENCODER,
    "adapters": ENCODER,
    "ia3": ENCODER,
    "bitfit": ENCODER,
    "lora.dinov2-small": IMAGES,
}
SCORED = 4  # held-out rows: nothing of the scores is shipped, but a run is scored


def record(name: str, steps: int, share: float | None) -> int:
    """One run of a method, and its trajectory shipped. Returns the bytes of the file."""
    slug, (model, task) = name.partition(".")[0], RUNS[name]
    run = store.create(RunRequest(model, slug, task, steps=steps, eval_rows=SCORED).complete())
    run.log.emit("queued")
    run.log.emit("starting")
    child.end_run(run, *training.train(run, Budget(share)))
    found = run.trajectory()
    if found is None or not found.ended:
        raise SystemExit(f"{name}: {run.view().message or 'nothing was recorded'}")
    SHIPPED_DATA.mkdir(exist_ok=True)
    target = SHIPPED_DATA / f"{name}.json"
    shutil.copyfile(run.folder / kept.TRAJECTORY, target)
    size = target.stat().st_size
    if size > FILE_BYTES:
        raise SystemExit(f"{target} has {size:,} bytes, more than {FILE_BYTES:,}.")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(RUNS), help="by default all of them")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run")
    parser.add_argument("--share", type=float, help="of the run's time that recording may take; without, any")
    asked = parser.parse_args()
    for name in asked.names:
        start = time.monotonic()
        size = record(name, asked.steps, asked.share)
        print(f"{name}: {size:,} bytes in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
