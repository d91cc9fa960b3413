"""Reserved memory of published trainings on rows of unequal length, beside runs simulated for such lengths.

python -m bench.over_a_run [--json] [--only TEXT]

Of ``bench/held_out/published.jsonl`` the open half, one GPU, memory that is reserved or read off the card (``unstated
memory``), and lengths of rows that are known by their mean, spread and ends (:data:`LENGTHS`).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from statistics import NormalDist
from typing import Any

from peft_lab.engine.over_a_run import assumed
from peft_lab.engine.request import ConfigRequest, StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import simulate, simulate_config

PUBLISHED = Path(__file__).parent / "held_out" / "published.jsonl"
#: Mean, deviation, least and most tokens of a row, and rows: of each part of a data set. Qwen's tokenizer; ms-swift,
#: docs/source_en/Instruction/Supported-models-and-datasets.md at 009f37a3 (self-cognition) and the table of its
#: datasets in 2024 (Alpaca GPT-4; english and chinese). Taken as log-normal between the ends.
SELF, EN, ZH = (58.9, 20.3, 32, 131), (178.2, 125.8, 28, 742), (164.1, 93.9, 28, 858)
LENGTHS: dict[str, tuple[tuple[tuple[float, float, int, int], int], ...]] = {
    "ms-swift examples/train/lora_sft.sh": ((ZH, 500), (EN, 500), (SELF, 500)),
    "ms-swift examples/train/qlora/bnb/train.sh": ((ZH, 500), (EN, 500), (SELF, 500)),
    "ms-swift examples/train/full/train.sh": ((SELF, 1000),),
    "ms-swift examples/train/multi-gpu/deepspeed/train_zero2.sh": ((SELF, 1000),),
    "ms-swift examples/train/multi-gpu/deepspeed/train_zero3.sh": ((SELF, 1000),),
    "ms-swift examples/train/multi-gpu/fsdp2_lora/train.sh": ((SELF, 1000),),
}
#: Of the method comparison: the rows' mean, the longest batch (``peft_lab/engine/published``), rows of 5,000 steps.
METAMATH = (209.9, 684, 20_000)
MODELS = {"Qwen/Qwen2.5-7B-Instruct": "qwen2.5-7b", "meta-llama/Llama-3.2-3B": "llama-3.2-3b"}
#: Methods of the comparison whose settings are a PEFT config by themselves; BD-LoRA's are LoRA's and one more.
COMPARED = ("lokr", "pvera", "vblora", "unilora")
#: What the method comparison does between steps; the others run as trainers do.
EMPTIES = "empty_cache"


def lengths(parts: Any) -> tuple[int, ...]:
    """Rows of log-normal lengths with these means and deviations."""
    found = []
    for (mean, deviation, least, most), rows in parts:
        spread = math.sqrt(math.log(1 + (deviation / mean) ** 2))
        middle = math.log(mean) - spread**2 / 2
        each = (math.exp(middle + spread * NormalDist().inv_cdf((row + 0.5) / rows)) for row in range(rows))
        found += [min(max(round(one), least), most) for one in each]
    return tuple(sorted(found))


def published() -> list[dict[str, Any]]:
    """The rows to compare with: open, unequal, in training, with a figure of reserved or of all memory."""
    rows = [json.loads(line) for line in PUBLISHED.read_text("utf-8").splitlines()]
    known = [row for row in rows if row["split"] == "open" and row["rows"] == "unequal"]
    return [row for row in known if row["name"] in LENGTHS or row["method"] in COMPARED]


def simulated(row: dict[str, Any]) -> Any:
    """The row's step at its longest, and on one GPU its runs."""
    own = row["name"] in LENGTHS
    rows = lengths(LENGTHS[row["name"]]) if own else assumed(*METAMATH)
    setting = StepSetting(row["batch"], rows[-1], padded=row["batch"] > 1, lengths=rows, capability=(8, 0))
    if not own:
        config = {**row["values"], "peft_type": row["method"].upper(), "task_type": "CAUSAL_LM"}
        return simulate_config(ConfigRequest(MODELS[row["model"]], config, setting))
    values = {name: row["values"][name] for name in ("r", "lora_alpha") if name in row["values"]}
    if values:
        values["target_modules"] = ["all-linear"]
    asked = StepRequest(
        MODELS[row["model"]], row["method"], values, setting, checkpointing=row["checkpointing"]
    )
    if row["sharding"] == "none":
        return simulate(asked, works=False)
    return simulate_sharded(asked, Sharding(row["sharding"], row["devices"]))


def main() -> None:
    """Prints a table in Markdown, or with ``--json`` the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    found = []
    for row in (row for row in published() if given.only in row["name"]):
        one = simulated(row)
        figure = next(one for one in row["figures"] if "memory" in one["kind"] or one["kind"] == "reserved")
        run = one.run
        ways = {} if run is None else {way: vars(each) for way, each in run.ways.items()}
        usual = None if run is None else run.others[EMPTIES] if row["name"] not in LENGTHS else run.reserved
        value = one.reserved_bytes if usual is None else usual.value
        off = 0.0 if figure["low"] <= value <= figure["high"] else value / figure["low"] - 1
        found.append({
            "name": row["name"], "published": [figure["low"], figure["high"]], "kind": figure["kind"],
            "step": one.reserved_bytes, "value": value, "ways": ways, "off": off, "seconds": one.seconds,
        })  # fmt: skip
        print(found[-1], file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps(found))
    else:
        print("median error", statistics.median(abs(row["off"]) for row in found))


if __name__ == "__main__":
    main()
