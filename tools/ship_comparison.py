"""Turn a finished comparison into a file that ships with the app.

    python -m peft_lab compare --model minilm-l6 --task sentiment --seeds 0,1,2
    python -m tools.ship_comparison minilm-l6-sentiment-1a2b3c4d --note "two cores, nothing else running"

Writes ``peft_lab/studies/compare/shipped/<model>-<task>.json``; commit it. Without an id it lists the comparisons
there are.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from peft_lab.core.errors import PeftLabError
from peft_lab.studies.compare import results, shipped, store

TARGET = Path(shipped.__file__).parent / shipped.FOLDER


def to_ship(found: dict[str, Any], note: str = "") -> dict[str, Any]:
    """Return a document as it is shipped: without conclusions, curves rounded, run ids kept as evidence.

    Args:
        note: what a reader should know about the measurement, such as that the machine was shared.

    Raises:
        ValueError: the comparison is not finished.
    """
    if found["status"] not in ("done", "incomplete") or not found["done"]:
        raise ValueError(f"'{found['id']}' is {found['status']}: only a finished comparison ships")
    kept = {key: value for key, value in found.items() if key not in ("pairs", "says")}
    rows = [
        {**row, "loss": {name: [_short(value) for value in values] for name, values in row["loss"].items()}}
        for row in kept["rows"]
    ]
    return {**kept, "rows": rows, "note": note}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def main(arguments: list[str] | None = None, target: Path = TARGET) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("comparison", nargs="?", help="id, as 'compare' prints it")
    parser.add_argument("--note", default="", help="how it was measured, for the reader")
    asked = parser.parse_args(arguments)
    if asked.comparison is None:
        for each in store.comparisons():
            standing = each.standing()
            print(f"{each.id}  {standing.status}  {len(standing.done)} runs done")
        return 0
    try:
        found = results.document(store.get(asked.comparison))
        content = to_ship(found, asked.note)
    except (PeftLabError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    target.mkdir(parents=True, exist_ok=True)
    file = target / f"{found['plan']['model']}-{found['plan']['task']}.json"
    file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
