"""Repeat "naive LoRA summation" (arXiv 2508.11985) with the three shipped adapters: ``python -m bench.sums FOLDER``.

The paper adds up LoRAs of GPT-2 small (rank 4, alpha 64; mathematics, medicine, finance), two at a time. Against one
LoRA trained on both domains' rows the perplexity changes by -9.10%, +4.54% and +27.56%, and the change grows about
linearly with the root mean square (RMS) cosine of the two ΔW (abstract of version 1, which is all that was read).

Here it is SmolLM2-135M. For each pair: the RMS over the maps of the cosine between the two ΔW, and the perplexity on
held-out rows of both tasks, exp of the mean of their losses: of each adapter alone on its own task, of one adapter
trained on both, of the sum of ΔW, and of half the sum. The change is against the one for both. FOLDER has it of each
pair, such as ``orders+style``: the rows by ``tools.record_blends --rows``, twice the shipped adapters' steps on them.
It writes ``studies/shipped/sums.json``; the words there, which say what came of it, are kept.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from peft_lab.core import disk, machine
from peft_lab.studies.blending import SCORED, SHIPPED, TASKS, Bench, shipped_part

FILE = SHIPPED / "sums.json"
PAIRS = [*combinations(range(len(TASKS)), 2)]
COLUMNS = (
    ("adapters", ""),
    ("RMS cosine of ΔW", "{:.3f}"),
    ("each alone", "{:.2f}"),
    ("one for both", "{:.2f}"),
    ("the sum", "{:.2f}"),
    ("change", "{:+.0%}"),
    ("half the sum", "{:.2f}"),
    ("change of half", "{:+.0%}"),
)


def cosine(bench: Bench, one: int, two: int) -> float:
    """Return the RMS over the maps of the cosine between two adapters' ΔW."""
    squares = []
    for layer in bench.layers().values():
        first, second = (
            layer.get_delta_weight(str(number)).detach().double().flatten() for number in (one, two)
        )
        squares.append(float(first @ second / (first.norm() * second.norm())) ** 2)
    return math.sqrt(fmean(squares))


def loss(bench: Bench, weights: Mapping[int, float], numbers: Sequence[int]) -> float:
    """Return the mean held-out loss on these adapters' tasks of the sum of adapters, whose weights stand by number."""
    bench.blend("cat", [weights.get(number, 0.0) for number in range(len(bench.parts))])
    return fmean(bench.losses(numbers, SCORED))


def row(pair: Sequence[int], rms: float, losses: Sequence[float]) -> list[Any]:
    """Return a pair's figures. ``losses``: each alone, one for both, the sum, half of it."""
    alone, both, full, half = map(math.exp, losses)
    return [named(pair, " + "), rms, alone, both, full, full / both - 1, half, half / both - 1]


def named(pair: Sequence[int], between: str = "+") -> str:
    """Return the names of a pair's adapters."""
    return between.join([*TASKS][number] for number in pair)


def of_both(folder: Path, pair: Sequence[int]) -> float:
    """Return the mean held-out loss on both tasks of an adapter that was trained on both."""
    parts = [shipped_part([*TASKS][number]) for number in pair]
    bench = Bench([replace(part, folder=folder / named(pair)) for part in parts])
    return loss(bench, {0: 1.0}, (0, 1))


def compared(bench: Bench, folder: Path) -> list[list[Any]]:
    """Return a row of figures for each pair."""
    alone = [loss(bench, {number: 1.0}, [number]) for number in range(len(TASKS))]
    rows = []
    for pair in PAIRS:
        found = [loss(bench, dict.fromkeys(pair, weight), pair) for weight in (1.0, 0.5)]
        own = fmean(alone[number] for number in pair)
        rows.append(row(pair, cosine(bench, *pair), (own, of_both(folder, pair), *found)))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def write(rows: Sequence[Sequence[Any]], commit: str) -> None:
    """Write the figures, as the tables of ``bench/results`` are stored and as the page shows them; keep the words."""
    forms = [form for _, form in COLUMNS[1:]]
    shown = [
        [one[0], *(form.format(value) for form, value in zip(forms, one[1:], strict=True))] for one in rows
    ]
    found = {
        "section": "Ship it: sums of adapters",
        "command": "python -m bench.sums FOLDER",
        "machine": f"{machine.cores()} cores of an {machine.processor()}, no GPU",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "held_out": SCORED,
        "columns": [
            {"name": name, "align": "right", "forms": [form]} if form else {"name": name, "align": "left"}
            for name, form in COLUMNS
        ],
        "rows": rows,
        "header": [name for name, _ in COLUMNS],
        "shown": shown,
    }
    words = disk.read_json(FILE, {})
    FILE.write_text(json.dumps({**words, **found}, indent=1, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="adapters trained on two tasks each")
    parser.add_argument("--commit", default="", help="what was measured, for the table")
    options = parser.parse_args()
    write(compared(Bench([*map(shipped_part, TASKS)]), options.folder), options.commit)


if __name__ == "__main__":
    main()
