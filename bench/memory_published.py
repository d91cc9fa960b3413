"""Published peaks beside simulated ones: ``python -m bench.memory_published [--json FILE]``.

Prints a table and the distribution of the error; nothing in the simulation is adjusted to it. The row that PEFT now
runs in another way is as ``tools.simulate_superseded`` found it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from peft_lab.core.errors import PeftLabError
from peft_lab.engine import published

_CLOSE, _MEDIAN = 5.0, 2.0


def compare(only: str = "") -> list[dict[str, Any]]:
    """One row for each experiment whose name contains ``only``."""
    rows = []
    for name, row in published.rows().items():
        if only in name:
            rows.append(_compare(row))
            print(_line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _compare(row: published.PublishedRow) -> dict[str, Any]:
    start = time.perf_counter()
    result: dict[str, Any] = {"experiment": row.experiment, "published": row.reserved}
    if row.experiment in published.SUPERSEDED:
        kept = published.simulated()[row.experiment]
        percent = published.error(row, kept)
        return {
            **result,
            "simulated": kept.reserved,
            "tensors": kept.tensors,
            "percent": percent,
            "seconds": 0.0,
        }
    try:
        found = published.simulate(row.experiment)
    except PeftLabError as error:
        return {**result, "error": str(error), "seconds": time.perf_counter() - start}
    assert found.reserved_bytes is not None
    percent = 100 * (found.reserved_bytes / row.reserved - 1)
    return {
        **result,
        "simulated": found.reserved_bytes,
        "tensors": found.peak_bytes,
        "percent": percent,
        "unrolled": found.unrolled,
        "seconds": time.perf_counter() - start,
    }


def _line(row: dict[str, Any]) -> str:
    name = f"{row['experiment']:<48}{row['published'] / 1e9:>8.2f}"
    if "error" in row:
        return f"{name}  not run: {row['error']}"
    return f"{name}{row['simulated'] / 1e9:>8.2f}{row['percent']:>+8.1f}%{row['seconds']:>7.1f} s"


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many ran, the median and the largest error in percent, and how many were within 5%."""
    errors = [abs(row["percent"]) for row in rows if "percent" in row]
    return {
        "rows": len(rows),
        "ran": len(errors),
        "within_5_percent": sum(error <= _CLOSE for error in errors),
        "median_percent": statistics.median(errors),
        "largest_percent": max(errors),
        "reached": statistics.median(errors) <= _MEDIAN and max(errors) <= _CLOSE,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write rows and summary here")
    parser.add_argument("--only", default="", help="experiments whose name contains this")
    options = parser.parse_args()
    rows = compare(options.only)
    print(f"{'experiment':<48}{'publ. GB':>8}{'sim. GB':>8}{'error':>9}")
    for row in rows:
        print(_line(row))
    found = summary(rows)
    print(json.dumps(found))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "summary": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
