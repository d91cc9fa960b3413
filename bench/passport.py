"""Seconds from an adapter's file to its passport, without weights: ``python -m bench.passport [--json]``.

LoRA on every linear map of each model of the catalogue, by its shapes alone; and ``peft-lab ship`` on a folder, as a
process of its own from start to end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModelEntry
from peft_lab.takeaway.ship.adapter import Adapter, StoredTensor
from peft_lab.takeaway.ship.passport import passport

CONFIG = {"peft_type": "LORA", "r": 16, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}


def made(entry: ModelEntry) -> Adapter:
    """Return LoRA of rank 16 on every linear map of a model."""
    tensors = {}
    for group in entry.shape.matrices:
        for path in group.paths:
            name = f"base_model.model.{path}.lora_"
            tensors[f"{name}A.weight"] = StoredTensor((16, group.in_features), "BF16")
            tensors[f"{name}B.weight"] = StoredTensor((group.out_features, 16), "BF16")
    return Adapter("made", CONFIG, tensors, (), lambda name: b"")


def command() -> float:
    """Return the seconds of ``ship`` on a small folder, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "adapter_config.json").write_text(json.dumps(CONFIG), "utf-8")
        save_file({"x.lora_A.weight": np.ones((16, 64), np.float32)}, folder / "adapter_model.safetensors")
        start = time.perf_counter()
        call = [sys.executable, "-m", "peft_lab", "ship", name, "--base", "llama-3.1-8b", "--json"]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def main() -> None:
    rows = []
    for entry in catalogue().values():
        adapter = made(entry)
        start = time.perf_counter()
        passport(adapter, entry)
        rows.append(
            {"model": entry.name, "tensors": len(adapter.tensors), "seconds": time.perf_counter() - start}
        )
    rows.append({"model": "command line, llama-3.1-8b", "tensors": 1, "seconds": command()})
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['model']:30} {row['tensors']:6,} tensors  {row['seconds']:.3f} s")


if __name__ == "__main__":
    main()
