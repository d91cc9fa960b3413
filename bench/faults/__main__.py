"""Run campaigns and print their table; see the package."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import tempfile
import time
from pathlib import Path

from bench.faults import campaigns
from bench.faults.rows import Place, Row
from peft_lab.assets import store as assets


def main() -> None:
    known = sorted(module.name for module in pkgutil.iter_modules(campaigns.__path__))
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="campaign", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--times", type=int, help="how often, instead of what each campaign does by default")
    options = parser.parse_args()
    for name in options.names:
        if name not in known:
            parser.error(f"there is no campaign '{name}': {', '.join(known)}")
    weights = assets.home()
    table = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Streamlit prints of an error on a page is no part of the table
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="peft-lab-faults-", ignore_cleanup_errors=True) as scratch:
        for name in options.names or known:
            place = Place(Path(scratch) / name, weights)
            place.scratch.mkdir()
            os.environ["PEFT_LAB_HOME"] = str(place.home("home"))
            begun = time.monotonic()
            for row in importlib.import_module(f"{campaigns.__name__}.{name}").run(place, options.times):
                rows.append(row)
                print(f"{name}: {_line(row)} {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
                for detail in row.trouble:
                    print(f"    {detail}", file=sys.stderr, flush=True)
    print(
        "| fault | tried | tracebacks | hangs | lost | what happened |\n|---|---:|---:|---:|---:|---|",
        file=table,
    )
    for row in rows:
        print(_line(row), file=table)
    table.close()
    sys.exit(any(row.tracebacks or row.hangs or row.lost for row in rows))


def _line(row: Row) -> str:
    return f"| {row.what} | {row.tried} | {row.tracebacks} | {row.hangs} | {row.lost} | {row.notes} |"


if __name__ == "__main__":
    main()
