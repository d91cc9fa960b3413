"""Answers of the adapters library, and the script that made them: it needs an environment of its own.

    python3 -m venv /tmp/env && /tmp/env/bin/pip install adapters==1.3.0 torch
    /tmp/env/bin/python tests/models/assets/adapters_library.py

Models are tiny and every weight follows from its name by whole numbers, so that no weights are stored and any release
of transformers holds the same. Everything is in float64: what differs then is the order of sums, not the place.
"""

from __future__ import annotations

import importlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")
HIDDEN, WIDTH, SCALE, NONLINEARITY = 16, 4, 2.0, "gelu"
_DECODER = {
    "hidden_size": HIDDEN, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 20, "max_position_embeddings": 32, "tie_word_embeddings": False,
}  # fmt: skip
_ENCODER = {
    "hidden_size": HIDDEN, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 20,
    "max_position_embeddings": 34, "type_vocab_size": 1,
}  # fmt: skip
#: By model type: what the config says, and what kind of model it is.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("encoder", _ENCODER),
    "roberta": ("encoder", _ENCODER),
    "llama": ("causal-lm", _DECODER),
    "mistral": ("causal-lm", {**_DECODER, "sliding_window": None}),
    "gpt2": (
        "causal-lm",
        {"n_embd": HIDDEN, "n_layer": 2, "n_head": 4, "n_inner": 24, "vocab_size": 20, "n_positions": 32},
    ),
    "t5": (
        "seq2seq",
        {
            "d_model": HIDDEN, "d_ff": 24, "d_kv": 4, "num_layers": 2, "num_heads": 4, "vocab_size": 20,
            "decoder_start_token_id": 0,
        },
    ),
}  # fmt: skip
PLACEMENTS = ("double_seq_bn", "seq_bn", "par_bn")


def numbers(name: str, shape: tuple[int, ...]) -> Any:
    """Weights between -0.25 and 0.25 that follow from a name; those of a norm are around one."""
    import torch

    many = 1
    for size in shape:
        many *= size
    start = zlib.crc32(name.encode()) % 9973
    values = (torch.arange(many, dtype=torch.float64) * 7919 + start * 31) % 1009 / 1009 * 0.5 - 0.25
    is_norm = len(shape) == 1 and name.endswith("weight")
    return values.reshape(shape) + (1.0 if is_norm else 0.0)


def fill(model: Any, keep: str) -> None:
    """Give every parameter its numbers, but for those whose name holds ``keep``."""
    import torch

    with torch.no_grad():
        for name, value in model.named_parameters():
            if keep not in name:
                value.copy_(numbers(name, tuple(value.shape)))


def inputs(kind: str) -> dict[str, Any]:
    import torch

    given = {"input_ids": torch.tensor([[5, 9, 12, 7, 3]])}
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    return given | ({"decoder_input_ids": torch.tensor([[0, 3, 8]])} if kind == "seq2seq" else {})


def answer(model: Any, kind: str) -> Any:
    """Logits, or the last hidden state of an encoder, (1, tokens, width)."""
    import torch

    with torch.no_grad():
        found = model.eval()(**inputs(kind))
    return found.last_hidden_state if kind == "encoder" else found.logits


def build(model_type: str, kind: str, config: dict[str, Any]) -> Any:
    import transformers

    auto: Any = {
        "encoder": transformers.AutoModel,
        "causal-lm": transformers.AutoModelForCausalLM,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
    }[kind]
    return auto.from_config(transformers.AutoConfig.for_model(model_type, **config)).double()


def _made(adapters: Any, model_type: str, placement: str | None) -> tuple[Any, dict[str, Any]]:
    kind, config = MODELS[model_type]
    model = build(model_type, kind, config)
    adapters.init(model)
    options = {"reduction_factor": HIDDEN / WIDTH, "non_linearity": NONLINEARITY}
    if placement == "par_bn":
        options["scaling"] = SCALE
    if placement:
        model.add_adapter("here", config=adapters.AdapterConfig.load(placement, **options))
        model.set_active_adapters("here")
    fill(model.double(), keep=".adapters.")
    import torch

    layer = importlib.import_module("adapters.methods.bottleneck").BottleneckLayer
    sites = []
    with torch.no_grad():
        for path, module in model.named_modules():
            if isinstance(module, layer) and "here" in module.adapters:
                stack = "decoder" if "decoder." in path else "encoder" if kind == "seq2seq" else ""
                index = next(iter(re.findall(r"\d+", path)))
                place = "attention" if module.location_key == "mh_adapter" else module.location_key
                site = f"{stack}.{index}.{place.removesuffix('_adapter')}"
                sites.append(site)
                own = module.adapters["here"]
                for name, linear in (("down", own.adapter_down[0]), ("up", own.adapter_up)):
                    for part in ("weight", "bias"):
                        value = getattr(linear, part)
                        value.copy_(numbers(f"{site}.{name}.{part}", tuple(value.shape)))
    trained = sum(value.numel() for name, value in model.named_parameters() if ".adapters.here." in name)
    found = answer(model, kind)
    return model, {"sites": sorted(sites), "trained": trained, "answer": found.flatten().tolist()}


def main() -> None:
    adapters, torch, transformers = (
        importlib.import_module(n) for n in ("adapters", "torch", "transformers")
    )
    found: dict[str, Any] = {}
    for model_type in MODELS:
        _, base = _made(adapters, model_type, None)
        found[model_type] = {"base": base["answer"]}
        for placement in PLACEMENTS:
            _, found[model_type][placement] = _made(adapters, model_type, placement)
            print(model_type, placement, found[model_type][placement]["sites"])
    versions = {each.__name__: each.__version__ for each in (adapters, transformers, torch)}
    rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    FILE.write_text(f'{{"versions": {json.dumps(versions)}, "found": {{\n{rows}\n}}}}\n', "utf-8")


if __name__ == "__main__":
    main()
