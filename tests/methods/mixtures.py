"""Tiny models whose layers hold experts or differ from each other, and Falcon in its three forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from peft_lab.methods.counting import count as counting
from peft_lab.methods.counting.count import CountReport
from peft_lab.models import meta
from peft_lab.models.shapes import ModelEntry

_QWEN: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128,
    "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
_FALCON: dict[str, Any] = {
    "model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "mixtral": {
        "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "num_local_experts": 4,
    },
    "qwen2_moe": {
        **_QWEN, "model_type": "qwen2_moe", "num_hidden_layers": 3, "shared_expert_intermediate_size": 48,
        "mlp_only_layers": [0],
    },
    "qwen3_moe": {**_QWEN, "model_type": "qwen3_moe", "num_hidden_layers": 3, "head_dim": 32},
    "gpt_oss": {
        "model_type": "gpt_oss", "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "deepseek_v3": {
        "model_type": "deepseek_v3", "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 128,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2, "topk_group": 1,
        "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16, "v_head_dim": 16,
    },
    "llama4_text": {
        "model_type": "llama4_text", "hidden_size": 64, "intermediate_size": 32, "intermediate_size_mlp": 96,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128,
        "num_local_experts": 4, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2,
    },
    "qwen3_next": {
        **_QWEN, "model_type": "qwen3_next", "num_hidden_layers": 4, "head_dim": 32, "linear_num_key_heads": 2,
        "shared_expert_intermediate_size": 48, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    },
    "falcon": {**_FALCON, "multi_query": True, "parallel_attn": True},
    "falcon-new": {**_FALCON, "num_kv_heads": 2, "new_decoder_architecture": True},
    "falcon-sequential": {**_FALCON, "multi_query": False, "parallel_attn": False, "alibi": True, "bias": True},
    "mamba2": {
        "model_type": "mamba2", "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 16,
        "state_size": 16, "n_groups": 2, "expand": 2, "vocab_size": 128,
    },
}  # fmt: skip
EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v3", "llama4_text", "qwen3_next")


@cache
def entry_of(name: str) -> ModelEntry:
    values = CONFIGS[name]
    config = meta.make_config(values)
    shape = meta.read_shape(meta.build(config, "causal-lm"), config, "causal-lm", name, name.capitalize())
    return ModelEntry(name, name, "causal-lm", False, values, shape, "random", None, "none")


def built(name: str) -> Any:
    """The model with values, the same at every call."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(meta.make_config(CONFIGS[name])).eval()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, dict[str, Any]], CountReport]:
    """:func:`counting.count` on these models."""
    monkeypatch.setattr(counting, "resolve", entry_of)
    return counting.count
