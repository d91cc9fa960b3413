"""Small models for simulations: a few layers of each architecture."""

from __future__ import annotations

from typing import Any

import torch

from peft_lab.engine.build import Blueprint
from peft_lab.models.shapes import ModelKind


def config(kind: str, layers: int) -> Any:
    """``llama``, ``gpt2``, ``bert``, ``t5`` or ``gemma`` (two kinds of attention in turn)."""
    import transformers

    shape: dict[str, Any] = {"vocab_size": 640, "num_hidden_layers": layers}
    if kind == "llama":
        return transformers.LlamaConfig(
            **shape, hidden_size=64, intermediate_size=160, num_attention_heads=4, num_key_value_heads=2
        )
    if kind == "gpt2":
        return transformers.GPT2Config(vocab_size=640, n_embd=64, n_layer=layers, n_head=4, n_positions=256)
    if kind == "bert":
        return transformers.BertConfig(**shape, hidden_size=64, intermediate_size=128, num_attention_heads=4)
    if kind == "gemma":
        return transformers.Gemma2Config(
            **shape,
            hidden_size=64,
            intermediate_size=128,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
        )
    t5: dict[str, Any] = {
        "d_model": 64,
        "d_ff": 128,
        "num_layers": layers,
        "num_heads": 4,
        "d_kv": 16,
        "decoder_start_token_id": 0,
    }
    return transformers.T5Config(vocab_size=640, **t5)


def blueprint(kind: str, layers: int, method: Any, **options: Any) -> Blueprint:
    families: dict[str, ModelKind] = {"bert": "encoder", "t5": "seq2seq"}
    family = families.get(kind, "causal-lm")
    return Blueprint(config(kind, layers), family, method, options.pop("dtype", torch.bfloat16), **options)


def adapter(name: str, kind: str = "llama", **fields: Any) -> Any:
    """A PEFT config by its type's name."""
    import peft

    task = {"bert": "SEQ_CLS", "t5": "SEQ_2_SEQ_LM"}.get(kind, "CAUSAL_LM")
    return peft.PeftConfig.from_peft_type(peft_type=name, task_type=task, **fields)
