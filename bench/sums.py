"""Repeat "naive LoRA summation" (arXiv 2508.11985) with the three shipped adapters: ``python -m bench.sums``.

The paper adds up LoRAs of GPT-2 small (rank 4, alpha 64; mathematics, medicine, finance), two at a time. Against one
LoRA trained on both domains' rows the perplexity changes by -9.10%, +4.54% and +27.56%, and the change grows about
linearly with the root mean square (RMS) cosine of the two ΔW (abstract of version 1, which is all that was read).

Here it is SmolLM2-135M. For each pair: the RMS over the maps of the cosine between the two ΔW, and the perplexity on
held-out rows of both tasks, exp of the mean of their losses: of each adapter alone on its own task, of the sum of ΔW,
and of half the sum. The change is against each alone, not against an adapter trained on both. It writes
``studies/shipped/sums.json``; the words there, which say what came of it, are kept.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
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
    """Return a pair's figures. ``losses``: each alone, the sum, half of it."""
    alone, full, half = map(math.exp, losses)
    name = " + ".join([*TASKS][number] for number in pair)
    return [name, rms, alone, full, full / alone - 1, half, half / alone - 1]


def compared(bench: Bench) -> list[list[Any]]:
    """Return a row of figures for each pair."""
    alone = [loss(bench, {number: 1.0}, [number]) for number in range(len(TASKS))]
    rows = []
    for pair in PAIRS:
        found = [loss(bench, dict.fromkeys(pair, weight), pair) for weight in (1.0, 0.5)]
        own = fmean(alone[number] for number in pair)
        rows.append(row(pair, cosine(bench, *pair), (own, *found)))
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
        "command": "python -m bench.sums",
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
    parser.add_argument("--commit", default="", help="what was measured, for the table")
    options = parser.parse_args()
    write(compared(Bench([*map(shipped_part, TASKS)])), options.commit)


if __name__ == "__main__":
    main()
