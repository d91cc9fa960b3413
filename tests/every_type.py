"""A config of every causal type that the installed transformers has: its defaults with few layers, on no disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft_lab.models.own import DEPTH_FIELDS

LAYERS = 4
_MIXED = ["linear_attention", "full_attention"] * 2
_HYBRID = ["linear_attention", "hybrid"] * 2
#: What a type's defaults leave empty, or make for their own depth.
NEEDED: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_types": _MIXED},
    "bamba": {"attn_layer_indices": [1, 3]},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dory": {"n_input_layers": 1, "n_recurrent_layers": 2, "n_output_layers": 1},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "intermediate_size": 8192,
        "activation_sparsity_pattern": [0.0] * LAYERS,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "granitemoehybrid": {"layer_types": _MIXED},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "kimi_linear": {"layer_types": _MIXED},
    "laguna": {"num_attention_heads_per_layer": [48] * LAYERS},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "zamba": {"layer_types": _HYBRID},
}
#: Types whose layers refer to each other by number.
DEEP = ("zamba2",)
#: Types of transformers' list that have no text config of their own to cut.
AUDIO = ("musicgen", "musicgen_melody")
#: Types whose defaults contradict each other: it drafts for a Gemma 4, and is given that one's sizes.
UNMADE = ("gemma4_assistant",)


def names() -> tuple[str, ...]:
    """All types, in transformers' order."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    return tuple(CLASSES)


def folder(name: str, place: Path) -> str:
    """Write a type's config as ``save_pretrained`` does; its folder.

    Raises:
        ValueError: as transformers, of a config that contradicts itself.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    usual = AutoConfig.for_model(name)
    text = usual if name in AUDIO else usual.get_text_config()
    few: dict[str, Any] = {field: LAYERS for field in DEPTH_FIELDS if isinstance(vars(text).get(field), int)}
    for field in ("layer_types", "mlp_layer_types", "layers_block_type"):
        kinds = vars(text).get(field)
        few |= {field: kinds[:LAYERS]} if isinstance(kinds, list) else {}
    few = {} if name in DEEP else few | NEEDED.get(name, {})
    inside = next((part for part in usual.sub_configs if getattr(usual, part, None) is text), None)
    config = AutoConfig.for_model(name, **({inside: few} if inside else few))
    place.mkdir()
    (place / "config.json").write_text(
        json.dumps({**config.to_dict(), "architectures": [CLASSES[name]]}, default=str)
    )
    return str(place)
