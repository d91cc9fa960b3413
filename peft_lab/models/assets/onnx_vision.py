"""Convert a float32 ONNX export of a DINOv2, with a head added by its packager, to the plain backbone.

The file holds every weight in float32. Weights that a layer names keep that name; a matrix that a MatMul reads lost its
name, is stored as (in, out), and is named after the operation. The export split the position table into two constants:
one for the first token, one for the 37 × 37 patches of the 518-pixel images that DINOv2 was last trained on (Oquab et
al. 2023, arXiv 2304.07193). transformers resizes the latter to an image's patches in every pass; here transformers' own
code does it once, for images of :data:`SIDE` pixels.

Runs as a separate process (``python -m peft_lab.models.assets.onnx_vision GRAPH FOLDER``), so that the caller need not
load torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from peft_lab.models.assets.onnx_weights import fields, numbers

#: Image side in pixels: 6 × 6 patches of 14, and three times the 28 of the digits used for training here.
SIDE = 84


def floats(file: Path) -> dict[str, Any]:
    """Return the float32 weights of an ONNX file by the path of their module: ``backbone.layernorm.weight``.

    A matrix without a name of its own is named after the MatMul that reads it; all others keep the names in the file.
    Torch tensors; matrices as torch has them, (out, in).
    """
    import numpy
    import torch

    graph = next(value for number, value in fields(memoryview(file.read_bytes())) if number == 7)
    arrays, readers = {}, {}
    for part, value in fields(graph):
        if part == 5:  # a tensor: sizes (1), type (2, of which 1 is float32), name (8), values as bytes (9)
            found = list(fields(value))
            said = dict(found)
            if said[2] == 1 and 9 in said:
                sizes = [size for field, size in found if field == 1]
                array = numpy.frombuffer(said[9], numpy.float32).reshape(sizes)
                arrays[bytes(said[8]).decode()] = array
        elif part == 1:  # an operation: what it reads (1), name (3), kind (4)
            found = list(fields(value))
            said = dict(found)
            if bytes(said[4]) == b"MatMul":
                read = [bytes(name).decode() for field, name in found if field == 1]
                path = bytes(said[3]).decode().strip("/").rpartition("/")[0]
                readers[read[1]] = path.replace("/", ".") + ".weight"
    return {
        readers.get(name, name): torch.from_numpy((array.T if name in readers else array).copy())
        for name, array in arrays.items()
    }


def rebuild(graph: Path, into: Path, side: int = SIDE) -> None:
    """Write the DINOv2 in an ONNX file to ``into`` as float32 safetensors, for square images of ``side`` pixels. Raises
    ValueError: the file lacks a weight or has a surplus one."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    found = floats(graph)
    first = next(value for name, value in found.items() if name.startswith("onnx::") and value.shape[1] == 1)
    rest = next(value for name, value in found.items() if name.startswith("onnx::") and value.shape[1] > 1)
    held = {
        name.removeprefix("backbone."): value for name, value in found.items() if name.startswith("backbone.")
    }
    held["embeddings.position_embeddings"] = torch.cat([first, rest], dim=1)
    width, patch = first.shape[-1], held["embeddings.patch_embeddings.projection.weight"].shape[-1]
    settings: dict[str, Any] = {
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "num_hidden_layers": sum(name.endswith("norm1.weight") for name in held),
        "patch_size": patch,
        "use_mask_token": False,
        "architectures": ["Dinov2Model"],
    }
    whole = Dinov2Model(Dinov2Config(image_size=round(rest.shape[1] ** 0.5) * patch, **settings))
    # transformers 5 calls the maps of attention otherwise than the export and the published weights do
    for name in list(held):
        plain = name.replace("attention.attention.", "attention.").replace(
            "attention.output.dense", "attention.o_proj"
        )
        for old, new in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            plain = plain.replace(f"attention.{old}.", f"attention.{new}.")
        held[plain] = held.pop(name)
    if held.keys() != whole.state_dict().keys():
        raise ValueError(
            f"weights that do not fit: {', '.join(sorted(held.keys() ^ whole.state_dict().keys())[:4])}"
        )
    whole.load_state_dict(held)
    small = Dinov2Model(Dinov2Config(image_size=side, **settings))
    patches = torch.empty(1, 1 + (side // patch) ** 2, width)
    resized = whole.embeddings.interpolate_pos_encoding(patches, side, side).detach().clone()
    small.load_state_dict(held | {"embeddings.position_embeddings": resized})
    small.save_pretrained(into)
    for weights in into.glob("*.safetensors"):  # written for the owner alone, whatever the umask says
        weights.chmod(0o644)
    # as DINOv2's own processor has them; ImageNet's
    told = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3}
    (into / "preprocessor_config.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")


#: The functions an exported file needs to do the same; the last one is the entry point.
PARTS = (numbers, fields, floats, rebuild)

if __name__ == "__main__":
    rebuild(Path(sys.argv[1]), Path(sys.argv[2]))
