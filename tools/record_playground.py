"""Record the runs of the playground, in the order of :func:`peft_lab.studies.playground.grid`.

    OMP_NUM_THREADS=2 python -m tools.record_playground [--most RUNS] [--out FILE]

Each run is appended to the file when it is complete; given again, the tool records the runs that are missing. Nothing
of the recording changes a training: it makes the steps of any other run of these settings.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from peft_lab.core import machine
from peft_lab.drawing.trajectory.recorder import compact_trajectory, evaluating
from peft_lab.drawing.trajectory.sentence import ASKED
from peft_lab.methods import recording
from peft_lab.runs import admission, course
from peft_lab.runs.record import versions
from peft_lab.studies.playground import FILE_BYTES, LEADING, SHIPPED, UNIT, VERSION, Setting, grid
from peft_lab.training.evaluation import question
from peft_lab.training.step import Masters
from tools.record_sentence import short

if TYPE_CHECKING:
    from peft_lab.methods.recording.recorder import Watched

SLOTS = ("q", "v")


def prepared(setting: Setting) -> course.Prepared:
    return course.prepare(setting.request.complete())


def answer(ready: course.Prepared) -> str:
    """Return what the model writes after the first held-out row, which no run trains on."""
    with evaluating(ready.model):
        return course.examiner(ready).answer(ready.model, [question(held_out(ready))])[0].answer


def held_out(ready: course.Prepared) -> Any:
    return ready.task.load().test[0]


def common() -> dict[str, Any]:
    """Return what all runs have in common, with the answer of the untrained model."""
    ready = prepared(next(grid()))
    row = held_out(ready)
    return {
        "format": VERSION,
        "spec": ready.spec.to_dict(),
        "machine": {
            "processor": machine.processor(),
            "cores": machine.cores(),
            "device": ready.base.device,
        },
        "versions": versions(),
        "total": ready.base.entry.shape.total,
        "slots": SLOTS,
        "order": row.text,
        "right": row.target,
        "base": answer(ready),
    }


def record(setting: Setting) -> dict[str, Any]:
    """Train, and return the record."""
    began = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    ready = prepared(setting)
    parts = recording.start(ready.method, ready.model, ready.base.entry.shape, ready.spec.values).parts
    first = min(part.layer for part in parts if part.layer is not None)
    followed = [next(part for part in parts if (part.layer, part.slot) == (first, slot)) for slot in SLOTS]
    masters = Masters(ready.model)
    moved, spectrum = [movement(parts)], [[leading(part)] for part in followed]
    losses, answers = [], []
    for made in course.steps(ready, masters, course.optimizer_of(ready, masters)):
        losses.append(short(made.loss, 4) if math.isfinite(made.loss) else None)
        moved.append(movement(parts))
        for series, part in zip(spectrum, followed, strict=True):
            series.append(leading(part))
        if made.step + 1 in ASKED:
            answers.append(answer(ready))
    return {
        **setting._asdict(),
        "recorded": began,
        "trained": sum(p.numel() for p in ready.model.parameters() if p.requires_grad),
        "memory": memory(ready.spec.values["r"], tuple(ready.spec.values["target_modules"])),
        "loss": losses,
        "moved": moved,
        "spectrum": spectrum,
        "answers": answers,
    }


def movement(parts: Any) -> list[int]:
    """Return how far each block has moved: the mean of its adapted matrices, in :data:`UNIT`."""
    blocks: dict[int, list[float]] = {}
    for part in parts:
        blocks.setdefault(part.layer, []).append(part.change() or 0.0)
    return [round(fmean(blocks[block]) / UNIT) for block in sorted(blocks)]


def leading(part: Watched) -> list[float]:
    return [short(value) for value in part.spectrum()[:LEADING]]


@cache
def memory(rank: int, targets: tuple[str, ...]) -> dict[str, int]:
    """Return the bytes of each part at the peak of the step that a run measures; neither α nor the rate changes it."""
    spec = Setting(rank, rank, 1e-3, targets).request.complete()
    simulation, _ = admission.step_ahead(spec.to_dict())
    return {part: size for part, size in simulation.parts.items() if size}


def known(out: Path) -> list[dict[str, Any]]:
    """Return the complete lines of the file, and cut off one that was not finished."""
    text = out.read_text("utf-8") if out.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        out.write_text(whole, "utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def missing(lines: list[dict[str, Any]]) -> Iterator[Setting]:
    recorded = {
        Setting(**{**{name: line[name] for name in Setting._fields}, "targets": tuple(line["targets"])})
        for line in lines[1:]
    }
    return (setting for setting in grid() if setting not in recorded)


def add(out: Path, line: dict[str, Any]) -> None:
    with out.open("a", encoding="utf-8") as file:
        file.write(compact_trajectory(line) + "\n")
    if out.stat().st_size > FILE_BYTES:
        raise SystemExit(f"{out} has more than {FILE_BYTES:,} bytes.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the file to add to")
    parser.add_argument("--most", type=int, help="runs to record now; all that are missing without it")
    options = parser.parse_args()
    if not known(options.out):
        add(options.out, common())
    for setting in islice(missing(known(options.out)), options.most):
        began = time.perf_counter()
        line = record(setting)
        add(options.out, line)
        place = " ".join(map(str, setting))
        print(
            f"{place}: loss {line['loss'][-1]}, {time.perf_counter() - began:.0f} s",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    main()
