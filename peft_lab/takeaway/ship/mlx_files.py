"""Write an adapter for MLX, transposed factors with one rank and one scale for all, and read it back.

mlx-lm 0.32.2 builds LoRA layers by ``keys``, and refuses tensors of other names or shapes (``load_adapters`` in
mlx_lm/tuner/utils.py); modules that its keys name in other blocks get a B of zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peft_lab.core import disk
from peft_lab.takeaway.ship.factors import Array, Factors
from peft_lab.takeaway.ship.gguf_files import Config, blocks, tables

_IN_BLOCK = re.compile(r".+?\.\d+\.")


def name_of(path: str, config: Config) -> str:
    """Return a module's path in MLX: transformers' own but for a prefix."""
    before, after = tables()["mlx"].get(config.get("model_type"), ("", ""))
    return after + path.removeprefix(before)


def write_adapter(folder: Path, factors: Sequence[Factors], config: Config) -> None:
    """Write ``adapters.safetensors`` and ``adapter_config.json``; zeros fill smaller ranks to the largest."""
    from safetensors.numpy import save_file

    scale, rank, stored = factors[0].scale or 1.0, max(len(one.a) for one in factors), {}
    names = [name_of(one.path, config) for one in factors]
    for name, one in zip(names, factors, strict=True):
        empty = (0, rank - len(one.a))
        stored[f"{name}.lora_a"] = np.ascontiguousarray(np.pad(one.a, (empty, (0, 0))).T)
        stored[f"{name}.lora_b"] = np.ascontiguousarray(np.pad(one.b_at(scale), ((0, 0), empty)).T)
        if one.norms is not None:
            stored[f"{name}.m"] = one.norms
    parameters: dict[str, Any] = {"rank": rank, "scale": scale, "dropout": 0.0}
    parameters["keys"] = sorted({_IN_BLOCK.sub("", name, count=1) for name in names})
    kind = "lora" if factors[0].norms is None else "dora"
    settings = {"fine_tune_type": kind, "num_layers": blocks(config), "lora_parameters": parameters}
    save_file(stored, folder / "adapters.safetensors")
    disk.write_json(folder / "adapter_config.json", settings)


def read_adapter(folder: Path, paths: Sequence[str], config: Config) -> Iterator[Array]:
    """Yield the ΔW of each module as MLX computes it."""
    from safetensors.numpy import load_file

    stored = load_file(folder / "adapters.safetensors")
    scale = disk.read_json(folder / "adapter_config.json")["lora_parameters"]["scale"]
    for name in (name_of(path, config) for path in paths):
        yield scale * (stored[f"{name}.lora_a"] @ stored[f"{name}.lora_b"]).T
