"""Published steps that compile, fuse the loss, checkpoint by operation or update in the backward pass, beside what is
simulated with and without those switches: ``python -m bench.switches [--only TEXT] [--write]``.

The open half of ``bench/held_out/published.jsonl`` only, and of it what the lab can simulate: models of the catalogue,
no float8, no two kinds of sharding at once. FSDP1 is simulated as FSDP2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from peft_lab.advise.plans.steps import split_seconds
from peft_lab.core.errors import PeftLabError
from peft_lab.engine import running
from peft_lab.engine.request import Simulation, StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import simulate, work_of
from peft_lab.engine.timing import estimate

HELD_OUT = Path(__file__).with_name("held_out") / "published.jsonl"
RESULT = Path(__file__).with_name("results") / "switches.json"
MODELS = {
    "meta-llama/Llama-3.1-8B": "llama-3.1-8b",
    "meta-llama/Meta-Llama-3-8B": "llama-3.1-8b",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "meta-llama/Llama-3.2-3B": "llama-3.2-3b",
    "mistralai/Mistral-7B-v0.1": "mistral-7b",
}
CARDS = {
    "A100": "a100-80",
    "A100 80 GB": "a100-80",
    "H100 96 GB (HBM2e, 500 W)": "h100",
    "RTX 4090": "rtx-4090",
    "RTX A6000": "a6000",
}
LOSSES = {
    "cross entropy": "whole",
    "cross entropy in 8 chunks": "whole",
    "fused linear cross entropy (Liger)": "liger",
}
SHARDINGS = {"none": "none", "fsdp1": "fsdp2", "fsdp2": "fsdp2"}
OPTIMIZERS = {
    "adamw": "adamw",
    "adamw (fused)": "adamw",
    "paged adamw 8bit, stepped in backward": "paged_adamw8bit",
}
QUANTIZATIONS = {None: "bfloat16", "bnb nf4": "nf4"}


def rows() -> Iterator[dict[str, Any]]:
    """Yield the open rows with a switch that the lab can simulate."""
    for line in HELD_OUT.read_text("utf-8").splitlines():
        row = json.loads(line)
        known = (
            row["split"] == "open" and row["phase"] == "training" and row["model"] in MODELS and row["seq"]
            and row["gpu"] in CARDS and row["loss"] in LOSSES and row["sharding"] in SHARDINGS
            and row["quantization"] in QUANTIZATIONS and set(row["needs"]) <= {"fused kernels"}
        )  # fmt: skip
        if known and switches(row):
            yield row


def switches(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a setting that a row has switched on."""
    found: dict[str, Any] = {"compile": row["compiled"], "loss": LOSSES[row["loss"]]}
    found["recompute"] = "selective" if "selective" in str(row["checkpointing"]) else ""
    found["updates"] = "backward" if "backward" in row["optimizer"] else ""
    usual = StepSetting(1, 1)
    return {name: value for name, value in found.items() if value != getattr(usual, name)}


def predict(row: dict[str, Any], changes: dict[str, Any]) -> tuple[int, int, float | None]:
    """Return a row's bytes allocated and reserved and its seconds, with these fields of the setting."""
    mixed = row["dtype"].startswith("float32")
    setting = StepSetting(
        row["batch"],
        row["seq"],
        optimizer=OPTIMIZERS[row["optimizer"]],
        precision="mixed-fp32" if mixed else "",
    )
    packed = row["quantization"] == "bnb nf4"
    request = StepRequest(
        MODELS[row["model"]],
        "lora" if packed else row["method"],
        row["values"],
        replace(setting, **changes),
        "nf4" if packed else "float32" if mixed else "bfloat16",
        bool(row["checkpointing"]),
    )
    how = Sharding(SHARDINGS[row["sharding"]], row["devices"], apart=row["tool"] == "torchtitan")
    card = CARDS[row["gpu"]]
    if how.runs == "none":
        one: Simulation = simulate(request)
        seconds = estimate.seconds(one.work[-1], card).value
        return one.peak_bytes, one.reserved_bytes or 0, seconds
    several = simulate_sharded(request, how)
    own = request if not mixed else replace(request, setting=replace(request.setting, precision="bf16"))
    seconds = split_seconds(work_of(own), several, card, "nvlink").value
    return several.peak_bytes, several.reserved_bytes or 0, seconds


def loss_compiled(row: dict[str, Any]) -> AbstractContextManager[Any]:
    """torchtitan's compiles layers only: its loss was turned off for errors (train.py of the named version)."""
    return patch.object(running, "compile_loss") if row["tool"] == "torchtitan" else nullcontext()


def compare(row: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield a line for each figure of a row: what was printed, and ours of it without and with its switches."""
    changes = switches(row)
    with loss_compiled(row):
        ways = [predict(row, one) for one in ({}, changes)]
    names = ", ".join(name if value is True else f"{name} {value}" for name, value in changes.items())
    for figure in row["figures"]:
        kind, low, high = figure["kind"], figure["low"], figure["high"]
        if kind in ("tokens a second", "seconds a step"):
            tokens = row["batch"] * row["seq"]
            low, high = (tokens / high, tokens / low) if kind == "tokens a second" else (low, high)
            ours, unit, scale = [way[2] for way in ways], "s", 1.0
        else:
            place = 0 if kind in ("allocated", "active") else 1
            ours, unit, scale = [float(way[place] or 0) for way in ways], "GB", 1e9
        middle = (low * high) ** 0.5
        figures = [round(value / scale, 2) for value in (middle, *ours)]
        yield [row["name"], names, f"{kind}, {unit}", *figures, *(round(value / middle, 2) for value in ours)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--write", action="store_true", help="write bench/results/switches.json")
    options = parser.parse_args()
    found = []
    for row in rows():
        if options.only not in row["name"]:
            continue
        try:
            lines = list(compare(row))
        except PeftLabError as error:
            print(f"{row['name']}: {error}", file=sys.stderr)
            continue
        for line in lines:
            print(*line, sep=" | ", flush=True)
        found += lines
    if options.write:
        kept = json.loads(RESULT.read_text("utf-8"))
        RESULT.write_text(json.dumps({**kept, "rows": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
