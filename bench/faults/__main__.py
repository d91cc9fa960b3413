"""Run campaigns and print their table; see the package."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.faults.campaigns import CAMPAIGNS
from bench.faults.rows import Place
from bench.faults.running import QUICK, rows
from peft_lab.core import disk

HEAD = (
    "| fault | tried | tracebacks | hangs | lost | what happened |",
    "|---|---:|---:|---:|---:|---|",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="campaign", help=f"of {', '.join(CAMPAIGNS)}; all by default"
    )
    parser.add_argument("--times", type=int, help="how often, instead of what each campaign does by default")
    parser.add_argument("--quick", action="store_true", help=f"one in {QUICK} of what each campaign tries")
    parser.add_argument(
        "--minutes", type=float, help="no case of a row begins later than that after its first"
    )
    options = parser.parse_args()
    for name in options.names:
        if name not in CAMPAIGNS:
            parser.error(f"there is no campaign '{name}': {', '.join(CAMPAIGNS)}")
    weights = disk.home()
    table = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Streamlit prints of an error on a page is no part of the table
    os.environ["HF_HUB_OFFLINE"] = "1"
    print("\n".join(HEAD), file=table, flush=True)
    clean = True
    with tempfile.TemporaryDirectory(prefix="peft-lab-faults-", ignore_cleanup_errors=True) as scratch:
        for name in options.names or CAMPAIGNS:
            place = Place(Path(scratch) / name, weights, options.minutes)
            begun = time.monotonic()
            for row in rows(name, place, options.times, options.quick):
                print(row.line(), file=table, flush=True)
                print(f"{name}: {row.line()} {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
                clean = clean and row.clean
    table.close()
    sys.exit(not clean)


if __name__ == "__main__":
    main()
