"""Per-GPU memory that others published of steps on several GPUs, beside what is simulated for the same settings.

python -m bench.sharded_published [--json] [--only TEXT]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.engine import sharding
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import simulate_blueprint
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import blueprint_of


def published_sharded() -> list[dict[str, Any]]:
    """Published memory of steps on several devices, to which nothing is fitted.

    ``published`` is a range in bytes, ``measure`` the kind of figure: ``allocated`` or ``reserved`` by PyTorch's
    allocator; ``driver``: all memory in use on the card.
    """
    return [*disk.read_json_lines(Path(sharding.__file__).with_name("published.jsonl"))]


def predict(row: dict[str, Any]) -> tuple[int, int]:
    """Bytes allocated and reserved at most for a published row's settings."""
    setting = StepSetting(row["batch"], row["seq"])
    request = StepRequest(
        row["model"], row["method"], row["values"], setting, checkpointing=row["checkpointing"]
    )
    plan = blueprint_of(request)
    for name, value in row["config"].items():
        setattr(plan.config, name, value)
    how = Sharding(row["sharding"], row["devices"], offload=row["offload"])
    found = simulate_blueprint(plan, setting, how, row["model"], row["method"])
    return found.peak_bytes, found.reserved_bytes or 0


def main() -> None:
    """Prints a table in Markdown, or with ``--json`` the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    rows = [row for row in published_sharded() if given.only in row["name"]]
    if not given.json:
        print("| step | measured as | published (GB) | allocated (GB) | reserved (GB) | off |")
        print("|---|---|---|---|---|---|", flush=True)
    found = []
    for row in rows:
        allocated, reserved = predict(row)
        low, high = row["published"]
        expected = allocated if row["measure"] == "allocated" else reserved
        off = 0.0 if low <= expected <= high else expected / (high if expected > high else low) - 1
        found.append({**row, "allocated": allocated, "reserved": reserved, "off": off})
        if not given.json:
            span = f"{low / 1e9:.2f}" if low == high else f"{low / 1e9:.0f} to {high / 1e9:.0f}"
            print(
                f"| {row['name']} | {row['measure']} | {span} | {allocated / 1e9:.2f} | {reserved / 1e9:.2f} | "
                f"{off:+.1%} |",
                flush=True,
            )
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
