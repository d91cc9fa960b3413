"""Record blends of the three shipped adapters, in the order of :func:`grid`.

    OMP_NUM_THREADS=2 python -m tools.record_blends [--most BLENDS] [--out FILE]
    python -m tools.record_blends --rows FILE json style           # training rows of both tasks, as a file to train on
    python -m tools.record_blends --keep orders FOLDER             # stores a run's adapter in 16 bits

Each blend is appended to the file when it is scored; stopped and given again, the tool records those that are missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from peft_lab.core import machine
from peft_lab.runs.record import versions
from peft_lab.studies.blending import (
    DENSITY,
    HOW,
    SCORED,
    SEED,
    SHIPPED,
    TASKS,
    Bench,
    shipped_part,
)
from peft_lab.takeaway.ship.adapter import CONFIG, WEIGHTS
from peft_lab.training.tasks import get_task
from tools.record_playground import known

PLACES = 4
LEVELS = (0.0, 0.5, 1.0)


def grid() -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the blends in the order of recording: base and adapters alone, then equal weights, then all others."""
    points = sorted(
        product(LEVELS, repeat=len(TASKS)), key=lambda point: (-sum(map(bool, point)), point[::-1])
    )
    blends = [point for point in points if sum(map(bool, point)) > 1]
    equal = sorted((point for point in blends if len({*point} - {0.0}) == 1), key=sum, reverse=True)
    yield from (("cat", point) for point in points if sum(point) == sum(map(bool, point)) < 2)
    for chosen in (equal, [point for point in blends if point not in equal]):
        yield from ((how, point) for point, how in product(chosen, HOW))


def common(bench: Bench) -> dict[str, Any]:
    """Return what all blends share."""
    return {
        "rows": SCORED,
        "density": DENSITY,
        "seed": SEED,
        "machine": {"processor": machine.processor(), "cores": machine.cores()},
        "versions": versions(),
        "overlap": {side: drawn(bench.overlaps(), side) for side in ("A", "B")},
        "chance": {side: round(chance(bench, at), PLACES) for side, at in (("A", 1), ("B", 0))},
    }


def drawn(rows: list[dict[str, Any]], side: str) -> dict[str, list[float]]:
    """Return the overlaps by pair and map, each from the first block to the last."""
    lines: dict[str, list[float]] = {}
    for row in rows:
        name = f"{' and '.join(row['pair'])}, {row['module'].rpartition('.')[2][0]}"
        lines.setdefault(name, []).append(round(row[side], PLACES))
    return lines


def chance(bench: Bench, at: int) -> float:
    """Return the mean overlap of random subspaces. ``at``: 1 for what is read, 0 for what is written."""
    shapes = [(layer.r["0"], layer.get_base_layer().weight.shape[at]) for layer in bench.layers().values()]
    return fmean(rank / size for rank, size in shapes)


def record(bench: Bench, how: str, weights: tuple[float, ...]) -> dict[str, Any]:
    """Score one blend on all tasks; with weights of 0 the base."""
    began = time.perf_counter()
    rank = 0
    if any(weights):
        rank = bench.blend(how, weights)
    else:
        bench.model.disable_adapter_layers()
    scores = bench.scores(range(len(TASKS)))
    if not any(weights):
        bench.model.enable_adapter_layers()
    return {
        "how": how,
        "weights": weights,
        "rank": rank,
        "scores": [round(score, PLACES) for score in scores],
        "seconds": round(time.perf_counter() - began, 1),
        "recorded": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }


def add(out: Path, line: dict[str, Any]) -> None:
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def write_rows(out: Path, tasks: list[str]) -> None:
    """Write training rows of tasks as JSON Lines, equally many of each."""
    trains = [get_task(name).load().train for name in tasks]
    for rows in zip(*trains, strict=False):
        for row in rows:
            add(out, {"prompt": row.text, "completion": row.target})


def keep(name: str, folder: Path) -> None:
    """Store a run's adapter beside the others, in 16 bits."""
    from safetensors.torch import load_file, save_file

    place = SHIPPED / name
    place.mkdir(parents=True, exist_ok=True)
    halved = {key: tensor.half() for key, tensor in load_file(folder / WEIGHTS).items()}
    save_file(halved, place / WEIGHTS, metadata={"format": "pt"})
    shutil.copy(folder / CONFIG, place / CONFIG)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=SHIPPED / "blends.jsonl", help="the file to add to")
    parser.add_argument("--most", type=int, help="blends to record now; all that are missing without it")
    parser.add_argument("--part", default="1/1", help="of the missing blends, such as 2/2 beside 1/2")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="a file, then tasks")
    parser.add_argument("--keep", nargs=2, metavar=("NAME", "FOLDER"))
    options = parser.parse_args()
    if options.keep:
        keep(options.keep[0], Path(options.keep[1]))
        return
    if options.rows:
        out, *tasks = options.rows
        write_rows(Path(out), tasks)
        return
    bench = Bench([shipped_part(name) for name in TASKS])
    about = SHIPPED / "about.json"
    if not about.is_file():
        about.write_text(json.dumps(common(bench)) + "\n", "utf-8")
    done = {(line["how"], tuple(line["weights"])) for line in known(options.out)}
    first, of = map(int, options.part.split("/"))
    missing = [each for each in grid() if each not in done][first - 1 :: of]
    for how, weights in missing[: options.most]:
        line = record(bench, how, weights)
        add(options.out, line)
        print(how, weights, line["scores"], f"{line['seconds']} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
