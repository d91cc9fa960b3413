"""What may be wrong with a folder that somebody calls a model: each case changes a small one that is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Change = Callable[[Path], object]


def _config(**values: Any) -> Change:
    return partial(_json, "config.json", values)


def _tokenizer_config(**values: Any) -> Change:
    return partial(_json, "tokenizer_config.json", values)


def _json(name: str, values: dict[str, Any], folder: Path) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _tokenizer(change: Callable[[dict[str, Any]], object]) -> Change:
    def put(folder: Path) -> None:
        found = json.loads((folder / "tokenizer.json").read_text())
        change(found)
        (folder / "tokenizer.json").write_text(json.dumps(found))

    return put


def _weights(change: Callable[[dict[str, Any]], object]) -> Change:
    def put(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", {"format": "pt"})

    return put


def _filled(value: float) -> Change:
    return _weights(lambda tensors: [tensor.fill_(value) for tensor in tensors.values()])


def _one(tensors: dict[str, Any], value: float) -> None:
    next(iter(tensors.values())).view(-1)[0] = value


def _as(name: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        import torch

        for key in tensors:
            tensors[key] = tensors[key].to(getattr(torch, name))

    return change


def _swap(tensors: dict[str, Any]) -> None:
    for key in list(tensors):
        if tensors[key].dim() == 2:
            tensors[key] = tensors[key].T.contiguous()


def _drop(tensors: dict[str, Any]) -> None:
    del tensors[sorted(tensors)[3]]


def _add(tensors: dict[str, Any]) -> None:
    import torch

    tensors["model.evil.weight"] = torch.zeros(3)


def _text(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def _gone(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def _template(text: str) -> Change:
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def _code(folder: Path) -> None:
    (folder / "evil.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w').close()\nclass T: pass\nclass M: pass\n"
    )


def _custom(folder: Path) -> None:
    _code(folder)
    _tokenizer_config(tokenizer_class="T", auto_map={"AutoTokenizer": ["evil.T", None]})(folder)
    _config(auto_map={"AutoModelForCausalLM": "evil.M"})(folder)


def _quantised(**values: Any) -> Change:
    return _config(quantization_config=values)


_ROWS = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
CASES: dict[str, Change] = {
    "as saved": lambda folder: None,
    # configs
    "70 billion parameters and tiny weights": _config(
        hidden_size=8192, num_hidden_layers=80, intermediate_size=28672, layer_types=None
    ),
    "a vocabulary of a billion": _config(vocab_size=10**9),
    "a billion layers": _config(num_hidden_layers=10**9, layer_types=None),
    "layers that the weights lack": _config(num_hidden_layers=9, layer_types=None),
    "fewer layers than the weights": _config(num_hidden_layers=1, layer_types=None),
    "more words than the weights": _config(vocab_size=300),
    "no positions": _config(max_position_embeddings=1),
    "negative positions": _config(max_position_embeddings=-5),
    "rope of zero": _config(rope_theta=0, rope_parameters={"rope_type": "default", "rope_theta": 0.0}),
    "a norm of nothing": _config(rms_norm_eps=0.0),
    "an initializer that is no number": _config(initializer_range=float("nan")),
    "a type that is unknown": _config(model_type="made-up"),
    "a type that reads sound": _config(model_type="whisper"),
    "another type of the same shape": _config(
        model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=None, head_dim=8
    ),
    "dtype nonsense": _config(dtype="nonsense"),
    "dtype float8": _config(dtype="float8_e4m3fn"),
    "tokens out of the vocabulary": _config(pad_token_id=9999, eos_token_id=9999, bos_token_id=-7),
    "tokens as text": _config(eos_token_id="</s>", pad_token_id=[1, 2]),
    "dropout of two": _config(attention_dropout=2.0),
    "attention of a repository": _config(_attn_implementation="kernels-community/evil:run"),
    "an activation that is unknown": _config(hidden_act="made-up"),
    # quantised
    "bitsandbytes in 4 bit": _quantised(quant_method="bitsandbytes", load_in_4bit=True),
    "bitsandbytes in 8 bit": _quantised(quant_method="bitsandbytes", load_in_8bit=True),
    "GPTQ": _quantised(quant_method="gptq", bits=4),
    "AWQ": _quantised(quant_method="awq", bits=4),
    "FP8": _quantised(quant_method="fp8"),
    "MXFP4": _quantised(quant_method="mxfp4"),
    "compressed-tensors": _quantised(quant_method="compressed-tensors", format="pack-quantized"),
    "torchao": _quantised(quant_method="torchao", quant_type="int4_weight_only"),
    "a quantisation made up": _quantised(quant_method="made-up"),
    "a quantisation that is a number": _config(quantization_config=3),
    "a quantisation without a method": _quantised(bits=4),
    # weights
    "all NaN": _filled(float("nan")),
    "all infinite": _filled(float("inf")),
    "all zero": _filled(0.0),
    "all 1e30": _filled(1e30),
    "one NaN": _weights(partial(_one, value=float("nan"))),
    "in integers": _weights(_as("int8")),
    "in 64 bits": _weights(_as("float64")),
    "in float8": _weights(_as("float8_e4m3fn")),
    "transposed": _weights(_swap),
    "one lacking": _weights(_drop),
    "one too many": _weights(_add),
    "cut": lambda folder: _cut(folder / "model.safetensors"),
    "a header of 4 GB": _text("model.safetensors", (2**32).to_bytes(8, "little") + b"{"),
    "a header that overlaps": _text(
        "model.safetensors",
        (lambda head: len(head).to_bytes(8, "little") + head + bytes(8))(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
        ),
    ),
    "a link to /dev/zero": lambda folder: _linked(folder / "model.safetensors"),
    # tokenizers
    "tokenizer.json: empty": _text("tokenizer.json", b""),
    "tokenizer.json: noise": _text("tokenizer.json", bytes(range(256))),
    "tokenizer.json: deep": _text("tokenizer.json", b"[" * 100_000),
    "tokenizer.json: an object": _text("tokenizer.json", b"{}"),
    "tokenizer.json: no words": _tokenizer(lambda found: found["model"].update(vocab={}, merges=[])),
    "tokenizer.json: ids of a billion": _tokenizer(
        lambda found: found["model"].update(
            vocab={word: 10**9 + at for at, word in enumerate(found["model"]["vocab"])}
        )
    ),
    "tokenizer.json: all one id": _tokenizer(
        lambda found: found["model"].update(vocab=dict.fromkeys(found["model"]["vocab"], 3))
    ),
    "tokenizer.json: a pattern that never ends": _tokenizer(
        lambda found: found.update(
            normalizer={"type": "Replace", "pattern": {"Regex": "(a|a)*(b|b)*((.*)*)*$x"}, "content": ""}
        )
    ),
    "tokenizer.json: every text is empty": _tokenizer(
        lambda found: found.update(normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": ""})
    ),
    "tokenizer.json: every letter a thousand": _tokenizer(
        lambda found: found.update(
            normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 100_000}
        )
    ),
    "tokenizer_config: a class made up": _tokenizer_config(tokenizer_class="MadeUp"),
    "tokenizer_config: a number": _text("tokenizer_config.json", b"3"),
    "tokenizer_config: no longest": _tokenizer_config(model_max_length=-3),
    "tokenizer_config: marks are numbers": _tokenizer_config(eos_token=3, pad_token={"a": 1}),
    "tokenizer_config: marks are unknown words": _tokenizer_config(
        eos_token="<made-up>", pad_token="<other>"
    ),
    "no tokenizer": lambda folder: [_gone(path.name)(folder) for path in folder.glob("tokenizer*")],
    "code of its own": _custom,
    # chat templates: on a conversation
    "chat: plain": _template(_ROWS),
    "chat: half a tag": _template("{% for"),
    "chat: an error": _template("{{ raise_exception('no') }}"),
    "chat: a division": _template("{{ 1 // 0 }}"),
    "chat: for ever": _template(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
        "{% endfor %}{% endfor %}{% endfor %}"
    ),
    "chat: memory": _template("{% set x = 'x' * 8000000000 %}{{ x ~ x }}"),
    "chat: a long text": _template(_ROWS + "{{ 'word ' * 2000000 }}"),
    "chat: recursion": _template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
    "chat: other classes": _template("{{ ().__class__.__base__.__subclasses__() }}"),
    "chat: a file": _template("{% include '/etc/passwd' %}"),
    "chat: nothing": _template(""),
    "chat: only half": _template("{{ messages[0]['content'] }}"),
    "chat: noise": lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff\xfe\x00{{"),
    "chat: no system message": _template(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + _ROWS
    ),
    "chat: time": _template(_ROWS + "{{ strftime_now('%f') }}"),
}
CASES |= {f"of texts, {what}": change for what, change in CASES.items() if what.startswith("chat:")}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")
