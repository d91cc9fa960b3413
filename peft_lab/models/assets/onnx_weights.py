"""Convert an int8 ONNX export of a T5 to plain float32 weights, which every PEFT method can adapt.

An export has one file for the encoder and one for the decoder. A weight W is stored as integers q with a single scale s
and a single zero point z (onnx.ai, operator DequantizeLinear):

    W = (q - z) s        stored as (in, out) where a MatMulInteger reads it, so transposed here

Only the parts of the file format that hold weights are parsed, so no ONNX library is needed. Runs as a separate process
(``python -m peft_lab.models.assets.onnx_weights ENCODER DECODER TOKENIZER FOLDER``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def numbers(data: memoryview) -> Iterator[int]:
    """Yield whole numbers, each in as many bytes as it needs: seven bits per byte, the lowest first."""
    found = shift = 0
    for byte in data:
        found |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield found
            found = shift = 0


def fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a protocol buffer message: number, and a whole number or the bytes of the content. Raises
    ValueError: a kind of field that ONNX files do not have."""
    place = 0

    def number() -> int:
        nonlocal place
        start = place
        while data[place] > 127:
            place += 1
        place += 1
        return next(numbers(data[start:place]))

    while place < len(data):
        key = number()
        kind = key & 7
        if kind == 0:
            yield key >> 3, number()
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"ONNX files have no field of kind {kind}")
        size = number() if kind == 2 else 8 if kind == 1 else 4
        yield key >> 3, data[place : place + size]
        place += size


def stored(file: Path) -> dict[str, Any]:
    """Return an ONNX file's weights by the path of their module: ``encoder.block.0.layer.0.SelfAttention.q.weight``.

    A matrix without a name of its own is named after the operation that reads it. Torch tensors, in float32; matrices
    as torch has them, (out, in).
    """
    import numpy
    import torch

    graph = next(value for number, value in fields(memoryview(file.read_bytes())) if number == 7)
    types = {1: numpy.float32, 2: numpy.uint8, 3: numpy.int8}
    arrays, readers = {}, {}
    for part, value in fields(graph):
        found = list(fields(value)) if part in (1, 5) else []
        if (
            part == 5
        ):  # a tensor: sizes (1), type (2), name (8); values as bytes (9), or one float (4) or number (5)
            said = dict(found)
            sizes = [size for field, size in found if field == 1]
            if said[2] not in types:
                continue
            if 5 in said:
                array = numpy.array(list(numbers(said[5])), types[said[2]])
            else:
                array = numpy.frombuffer(said[9] if 9 in said else said[4], types[said[2]])
            arrays[bytes(said[8]).decode()] = array.reshape(sizes)
        elif part == 1:  # an operation: what it reads (1), name (3), kind (4)
            said = dict(found)
            if bytes(said[4]) == b"MatMulInteger":
                weight = [bytes(name).decode() for field, name in found if field == 1][1]
                path = bytes(said[3]).decode().strip("/").rpartition("/")[0]
                readers[weight] = path.replace("/", ".") + ".weight"
    weights = {}
    for name, array in arrays.items():
        plain = name.removesuffix("_quantized")
        if plain != name:
            scale, zero = arrays[f"{plain}_scale"], arrays[f"{plain}_zero_point"]
            array = (array.astype(numpy.float32) - zero.astype(numpy.float32)) * scale
        elif not name.endswith("norm.weight"):
            continue
        weights[readers.get(name, plain)] = torch.from_numpy(
            array.T.copy() if name in readers else array.copy()
        )
    return weights


def rebuild(encoder: Path, decoder: Path, tokenizer: Path, into: Path) -> None:
    """Write a T5 of two ONNX files and a ``tokenizer.json`` to ``into`` as float32 safetensors and a tokenizer.

    The whole numbers become the weights they stand for; what their rounding lost stays lost.

    Raises:
        ValueError: the files lack a weight or have a surplus one.
    """
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    found = {name.replace("enc.", "encoder.", 1): value for name, value in stored(encoder).items()}
    found |= {name.removeprefix("m."): value for name, value in stored(decoder).items()}
    embeddings = found.pop("encoder.embed_tokens.weight")  # both stacks have the same ones
    if not torch.equal(embeddings, found["shared.weight"]):
        raise ValueError("the embeddings of encoder and decoder differ")
    own: dict[str, Any] = {"tie_word_embeddings": False, "decoder_start_token_id": 0, "dtype": "float32"}
    queries = [
        name for name in found if name.startswith("encoder") and name.endswith("SelfAttention.q.weight")
    ]
    config = T5Config(
        architectures=["T5ForConditionalGeneration"],
        d_model=embeddings.shape[1],
        d_ff=found["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0],
        d_kv=64,
        num_heads=found[queries[0]].shape[0] // 64,
        num_layers=len(queries),
        vocab_size=embeddings.shape[0],
        feed_forward_proj="gated-gelu",
        **own,
    )
    with torch.device("meta"):
        wanted = set(T5ForConditionalGeneration(config).state_dict())
    wanted -= {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}  # the shared ones again
    if found.keys() != wanted:
        raise ValueError(f"weights that do not fit: {', '.join(sorted(found.keys() ^ wanted)[:4])}")
    save_file(found, into / "model.safetensors", metadata={"format": "pt"})
    (into / "model.safetensors").chmod(0o644)  # written for the owner alone, whatever the umask says
    config.save_pretrained(into)
    # T5Config says that head and embeddings are one whatever it was told; these are two.
    written = json.loads((into / "config.json").read_text("utf-8")) | {"tie_word_embeddings": False}
    (into / "config.json").write_text(json.dumps(written, indent=2) + "\n", "utf-8")
    words = Tokenizer.from_file(str(tokenizer))
    words.no_truncation()  # the file cuts at 48 tokens
    words.no_padding()
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=512
    ).save_pretrained(into)


#: The functions an exported file needs to do the same; the last one is the entry point.
PARTS = (numbers, fields, stored, rebuild)

if __name__ == "__main__":
    rebuild(*(Path(argument) for argument in sys.argv[1:]))
