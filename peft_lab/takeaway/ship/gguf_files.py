"""Write GGUF files for llama.cpp and Ollama, adapters and whole models, and read them back as the engine does.

What differs between architectures stands in ``layouts.yaml``; names come from the ``gguf`` package's own tables.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from peft_lab.core.errors import BadInput
from peft_lab.takeaway.ship.factors import Array, Factors

#: The types of a whole model's matrices, with llama.cpp's numbers of file types.
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7}
#: Matrices that llama.cpp's converter leaves in float32 (conversion/base.py), beside every vector.
_WHOLE = ("position_embd.weight", "ffn_gate_inp.weight")
EMBEDDING = "token_embd.weight"
_ELSEWHERE = "Write merged safetensors, and convert them with llama.cpp's own convert_hf_to_gguf.py."
Config = Mapping[str, Any]


@cache
def tables() -> Mapping[str, Any]:
    """Return the content of ``layouts.yaml``."""
    return yaml.safe_load(Path(__file__).with_name("layouts.yaml").read_text("utf-8"))


def _layout(config: Config) -> Mapping[str, Any]:
    kind, known = str(config.get("model_type")), tables()["architectures"]
    if kind not in known:
        raise BadInput(f"PEFT Lab writes GGUF for {', '.join(known)}, not for {kind}. {_ELSEWHERE}", "to")
    return known[kind]


def blocks(config: Config) -> int:
    """Return the number of a model's blocks."""
    return int(config.get("num_hidden_layers") or config["n_layer"])


@cache
def _names(arch: str, count: int) -> Any:
    import gguf

    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    return gguf.get_tensor_name_map(number, count)


def name_of(path: str, config: Config) -> str:
    """Return a parameter's name in GGUF. Raises BadInput if llama.cpp has no such tensor."""
    arch = _layout(config)["arch"]
    found = _names(arch, blocks(config)).get_name(path, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise BadInput(f"llama.cpp's '{arch}' has no tensor for '{path}'. Merge the adapter.", "to")
    return str(found)


def heads_of(path: str, config: Config) -> int:
    """Return the number of heads by which the rows of a module's matrix are reordered; 0 if they are not."""
    rows = _layout(config).get("rows", {})
    return next((int(config[field]) for part, field in rows.items() if f".{part}." in f"{path}."), 0)


def reorder_rows(matrix: Array, heads: int) -> Array:
    """Return the rows of each head in llama.cpp's order (``heads`` 0: unchanged).

    transformers rotates row i of a head together with row i + d/2, llama.cpp row 2i with row 2i + 1.
    """
    if not heads:
        return matrix
    halves = matrix.reshape(heads, 2, len(matrix) // heads // 2, *matrix.shape[1:])
    return halves.swapaxes(1, 2).reshape(matrix.shape)


def restore_rows(matrix: Array, heads: int) -> Array:
    """Return the rows in transformers' order: of each head first the even rows, then the odd ones."""
    order = np.arange(len(matrix)).reshape(max(heads, 1), -1)
    return matrix[np.concatenate([order[:, 0::2], order[:, 1::2]], axis=1).ravel()] if heads else matrix


def write_adapter(file: Path, factors: Sequence[Factors], alpha: float, config: Config) -> None:
    """Write a LoRA adapter. llama.cpp scales by alpha over a matrix's own rank; any other scale goes into B. Raises
    BadInput if llama.cpp has no tensor of its own for a module."""
    import gguf

    writer, alpha = gguf.GGUFWriter(str(file), _layout(config)["arch"]), alpha or 1.0
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for one in factors:
        name, b = name_of(f"{one.path}.weight", config), one.b_at(alpha / len(one.a))
        a = one.a.T if name == EMBEDDING else one.a  # rows of A are looked up by token
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(reorder_rows(b, heads_of(one.path, config))))
    _finish(writer)


def read_adapter(file: Path, paths: Sequence[str], config: Config) -> Iterator[Array]:
    """Yield the ΔW of each module as llama.cpp computes it from a file, its rows in transformers' order."""
    import gguf

    reader = gguf.GGUFReader(str(file))
    alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    for path in paths:
        name = name_of(f"{path}.weight", config)
        a, b = stored[f"{name}.lora_a"], restore_rows(stored[f"{name}.lora_b"], heads_of(path, config))
        a = a.T if name == EMBEDDING else a
        yield alpha / len(a) * (b @ a)


def write_model(file: Path, model: Any, tokenizer: Any, kind: str) -> tuple[int, float]:
    """Write a whole model, its matrices in one of :data:`TYPES`, and read it back.

    Returns:
        the number of tensors, and the largest difference of an entry: what the type costs.

    Raises:
        BadInput: PEFT Lab cannot write the architecture, its positions or its tokenizer.
    """
    import gguf

    config = model.config.to_dict()
    writer = gguf.GGUFWriter(str(file), _layout(config)["arch"])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_settings(writer, config)
    _write_tokenizer(writer, tokenizer, config["vocab_size"])
    for path, values in _parameters(model, config):
        name, stored = name_of(path, config), _stored(path, values, config)
        kind_here = _type_of(name, stored, kind)
        writer.add_tensor(name, gguf.quants.quantize(stored, kind_here), raw_dtype=kind_here)
    _finish(writer)
    read = {one.name: one for one in gguf.GGUFReader(str(file)).tensors}
    worst = 0.0
    for path, values in _parameters(model, config):
        one = read[name_of(path, config)]
        back = _restored(path, gguf.quants.dequantize(one.data, one.tensor_type), config)
        worst = max(worst, float(np.abs(back - values).max()))
    return len(read), worst


def _type_of(name: str, values: Array, kind: str) -> Any:
    """Return a tensor's type: embeddings in 8 bits where others have 4; 16 bits where blocks of 32 do not fit."""
    from gguf import GGMLQuantizationType as Type

    if values.ndim == 1 or name.endswith(_WHOLE):
        return Type.F32
    if kind.startswith("q") and values.shape[-1] % 32:
        return Type.F16
    return Type.Q8_0 if kind == "q4_0" and name.startswith(("token_embd", "output.")) else Type[kind.upper()]


def _parameters(model: Any, config: Config) -> Iterator[tuple[str, Array]]:
    """Yield a model's parameters, tied ones once and the experts' gate and up apart, by transformers' names."""
    for path, parameter in model.named_parameters():
        values: Array = parameter.detach().float().cpu().numpy()
        if path.endswith("gate_up_proj"):  # (experts, 2 × d_ff, d)
            gate, up = np.split(values, 2, axis=-2)
            yield path.replace("gate_up", "gate") + ".weight", gate
            yield path.replace("gate_up", "up") + ".weight", up
        else:
            yield path if path.endswith((".weight", ".bias")) else f"{path}.weight", values
    theta, kind = _rotation(config)
    if kind == "llama3":
        plain = theta ** -(np.arange(0, config["head_dim"], 2) / config["head_dim"])
        yield "rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)


def _stored(path: str, values: Array, config: Config) -> Array:
    """Return a parameter as llama.cpp stores it."""
    if path.endswith(tuple(_layout(config).get("transposed", ()))):
        values = values.T
    if path.endswith(tuple(_layout(config).get("plus one", ()))):
        values = values + 1
    return np.ascontiguousarray(reorder_rows(values, heads_of(path, config)))


def _restored(path: str, stored: Array, config: Config) -> Array:
    """Return a parameter as transformers has it."""
    values = restore_rows(stored, heads_of(path, config))
    if path.endswith(tuple(_layout(config).get("plus one", ()))):
        values = values - 1
    return values.T if path.endswith(tuple(_layout(config).get("transposed", ()))) else values


def _rotation(config: Config) -> tuple[float, str]:
    """Return base and kind of the rotary positions; base 0 for a model without them."""
    told: Any = config.get("rope_parameters") or {}
    told = told.get("full_attention", told)
    return float(told.get("rope_theta", 0)), str(told.get("rope_type", "default"))


def _write_settings(writer: Any, config: Config) -> None:
    theta, kind = _rotation(config)
    if kind not in ("default", "llama3"):
        raise BadInput(f"PEFT Lab writes no GGUF with positions of kind '{kind}'. {_ELSEWHERE}", "to")
    known = {"rope_theta": theta or None, "four_times": 4 * config.get("n_embd", 0), **config}
    for key, fields in {**tables()["keys"], **_layout(config).get("keys", {})}.items():
        value = next((known[name] for name in fields if known.get(name) is not None), None)
        if value is not None:
            add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
            add(f"{writer.arch}.{key}", value)


def _write_tokenizer(writer: Any, tokenizer: Any, size: int) -> None:
    """Write a byte-level BPE vocabulary, as ``_set_vocab_gpt2`` of llama.cpp's converter does."""
    from gguf import TokenType

    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = str(tokenizer.encode(b64decode(tables()["text"]).decode()))
    split = tables()["splits"].get(sha256(tokens.encode()).hexdigest())
    if split is None or model["type"] != "BPE":
        raise BadInput(f"PEFT Lab cannot write this model's tokenizer into a GGUF file. {_ELSEWHERE}", "to")
    names = {number: text for text, number in tokenizer.get_vocab().items()}
    kinds = dict.fromkeys(names, TokenType.NORMAL)
    for number, token in tokenizer.added_tokens_decoder.items():
        kinds[number] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list([names.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types([kinds.get(number, TokenType.UNUSED) for number in range(size)])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    for name in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(tokenizer.encode("a")[:1] == [tokenizer.bos_token_id])
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
