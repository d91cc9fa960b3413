"""Random tiny configs of many architectures, as somebody's ``config.json``."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Config = dict[str, Any]
#: Experts that are one parameter of three dimensions, which PEFT's linear targets do not reach.
EXPERTS = (
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "gpt_oss",
    "deepseek_v3",
    "llama4_text",
    "qwen3_next",
    "olmoe",
)
#: Refused for what they are.
NO_LANGUAGE = ("vit", "clip", "whisper", "wav2vec2")


def _base(random: Random) -> Config:
    heads = random.choice((1, 2, 4))
    return {
        "hidden_size": heads * random.choice((8, 16)),
        "intermediate_size": random.choice((16, 24, 40, 64)),
        "num_hidden_layers": random.choice((1, 2, 3)),
        "num_attention_heads": heads,
        "vocab_size": random.choice((40, 64, 97)),
        "max_position_embeddings": 64,
        "tie_word_embeddings": random.random() < 0.5,
    }


def _grouped(random: Random) -> Config:
    """As Llama and those after it: fewer keys than queries, now and then heads of a width of their own."""
    base = _base(random)
    heads = base["num_attention_heads"]
    base["num_key_value_heads"] = random.choice([n for n in (1, 2, 4) if heads % n == 0])
    if random.random() < 0.3:
        base["head_dim"] = random.choice((4, 8, 16))
    return base


def _fixed_heads(random: Random) -> Config:
    return {name: value for name, value in _grouped(random).items() if name != "head_dim"}


def _with_biases(*names: str) -> Callable[[Random], Config]:
    def make(random: Random) -> Config:
        return _grouped(random) | {name: random.random() < 0.5 for name in names}

    return make


def _gpt(random: Random) -> Config:
    base = _base(random)
    return {
        "n_embd": base["hidden_size"], "n_layer": base["num_hidden_layers"], "n_head": base["num_attention_heads"],
        "n_inner": random.choice((None, base["intermediate_size"])), "vocab_size": base["vocab_size"],
        "n_positions": 64, "tie_word_embeddings": base["tie_word_embeddings"],
    }  # fmt: skip


def _gptj(random: Random) -> Config:
    return _gpt(random) | {"rotary_dim": 4, "tie_word_embeddings": False}


def _gpt_neo(random: Random) -> Config:
    base, pairs = _base(random), random.choice((1, 2))
    return {
        "hidden_size": base["hidden_size"], "num_heads": base["num_attention_heads"], "num_layers": 2 * pairs,
        "attention_types": [[["global", "local"], pairs]], "vocab_size": base["vocab_size"], "window_size": 8,
        "max_position_embeddings": 64, "intermediate_size": random.choice((None, 40)),
    }  # fmt: skip


def _opt(random: Random) -> Config:
    base = _base(random)
    narrow = random.random() < 0.3
    return base | {
        "ffn_dim": base.pop("intermediate_size"),
        "word_embed_proj_dim": 12 if narrow else base["hidden_size"],
        "enable_bias": random.random() < 0.8,
    }


def _bloom(random: Random) -> Config:
    base = _base(random)
    return {
        "hidden_size": base["hidden_size"], "n_layer": base["num_hidden_layers"], "vocab_size": base["vocab_size"],
        "n_head": base["num_attention_heads"],
    }  # fmt: skip


def _falcon(random: Random) -> Config:
    base = _base(random)
    more = random.choice(
        (
            {"multi_query": True},
            {"multi_query": False},
            {"new_decoder_architecture": True, "num_kv_heads": 1},
            {"bias": True},
            {"parallel_attn": False},
        )
    )
    return base | {"ffn_hidden_size": base.pop("intermediate_size"), **more}


def _mpt(random: Random) -> Config:
    base = _base(random)
    return {
        "d_model": base["hidden_size"], "n_layers": base["num_hidden_layers"], "n_heads": base["num_attention_heads"],
        "vocab_size": base["vocab_size"], "max_seq_len": 64, "expansion_ratio": random.choice((2, 4)),
    }  # fmt: skip


def _experts(random: Random) -> Config:
    return _grouped(random) | {
        "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24, "decoder_sparse_step": random.choice((1, 2)), "head_dim": 8,
    }  # fmt: skip


def _deepseek(random: Random) -> Config:
    base = _base(random)
    return base | {
        "num_key_value_heads": base["num_attention_heads"], "n_routed_experts": 4, "num_experts_per_tok": 2,
        "n_group": 2, "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": random.choice((0, 1)),
        "q_lora_rank": random.choice((None, 12)), "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
        "v_head_dim": random.choice((8, 12)),
    }  # fmt: skip


def _mamba(random: Random) -> Config:
    base = _base(random)
    return {
        "hidden_size": base["hidden_size"], "num_hidden_layers": base["num_hidden_layers"], "state_size": 4,
        "vocab_size": base["vocab_size"], "use_bias": random.random() < 0.5, "tie_word_embeddings": True,
    }  # fmt: skip


def _mamba2(random: Random) -> Config:
    hidden = random.choice((16, 32))
    return _mamba(random) | {
        "hidden_size": hidden, "num_heads": 4, "head_dim": hidden // 2, "n_groups": 2, "chunk_size": 8
    }  # fmt: skip


def _rwkv(random: Random) -> Config:
    base = _base(random)
    return {
        "hidden_size": base["hidden_size"], "num_hidden_layers": random.choice((2, 3)), "context_length": 64,
        "vocab_size": base["vocab_size"], "attention_hidden_size": random.choice((None, base["hidden_size"])),
    }  # fmt: skip


def _bert(random: Random) -> Config:
    return _base(random) | {"tie_word_embeddings": True}


def _narrow(random: Random) -> Config:
    base = _bert(random)
    return base | {"embedding_size": random.choice((12, base["hidden_size"]))}


def _deberta(random: Random) -> Config:
    more: Config = {"relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 8}
    return _bert(random) | random.choice(({}, more, {**more, "share_att_key": True}))


def _distilbert(random: Random) -> Config:
    base = _base(random)
    return {
        "dim": base["hidden_size"], "hidden_dim": base["intermediate_size"], "n_layers": base["num_hidden_layers"],
        "n_heads": base["num_attention_heads"], "vocab_size": base["vocab_size"], "max_position_embeddings": 64,
    }  # fmt: skip


def _t5(random: Random) -> Config:
    base = _base(random)
    return {
        "d_model": base["hidden_size"], "d_ff": base["intermediate_size"], "vocab_size": base["vocab_size"],
        "d_kv": random.choice((8, base["hidden_size"] // base["num_attention_heads"])),
        "num_layers": base["num_hidden_layers"], "num_decoder_layers": random.choice((1, 2)),
        "num_heads": base["num_attention_heads"], "feed_forward_proj": random.choice(("relu", "gated-gelu")),
        "tie_word_embeddings": base["tie_word_embeddings"], "decoder_start_token_id": 0,
    }  # fmt: skip


def _bart(random: Random) -> Config:
    base = _base(random)
    heads, width = base["num_attention_heads"], base["intermediate_size"]
    return {
        "d_model": base["hidden_size"], "vocab_size": base["vocab_size"], "max_position_embeddings": 64,
        "encoder_layers": base["num_hidden_layers"], "decoder_layers": random.choice((1, 2)),
        "encoder_attention_heads": heads, "decoder_attention_heads": heads, "encoder_ffn_dim": width,
        "decoder_ffn_dim": random.choice((width, 20)), "decoder_start_token_id": 0,
    }  # fmt: skip


ARCHITECTURES: dict[str, Callable[[Random], Config]] = {
    "gpt2": _gpt, "gpt_bigcode": _gpt, "gptj": _gptj, "codegen": _gptj, "gpt_neo": _gpt_neo, "gpt_neox": _base,
    "opt": _opt, "bloom": _bloom, "falcon": _falcon, "mpt": _mpt,
    "llama": _with_biases("attention_bias", "mlp_bias"), "mistral": _grouped, "qwen2": _fixed_heads,
    "qwen3": _with_biases("attention_bias"), "gemma": _grouped, "gemma2": _grouped, "gemma3_text": _grouped,
    "phi": _fixed_heads, "phi3": _fixed_heads, "olmo": _fixed_heads, "olmo2": _fixed_heads, "cohere": _fixed_heads,
    "cohere2": _grouped, "granite": _with_biases("attention_bias", "mlp_bias"), "glm": _grouped,
    "stablelm": _fixed_heads, "starcoder2": _with_biases("use_bias"), "smollm3": _grouped, "nemotron": _grouped,
    "mixtral": _experts, "qwen2_moe": _experts, "qwen3_moe": _experts, "gpt_oss": _experts, "olmoe": _experts,
    "deepseek_v3": _deepseek, "llama4_text": _experts,
    "mamba": _mamba, "falcon_mamba": _mamba, "mamba2": _mamba2, "rwkv": _rwkv,
    "bert": _bert, "roberta": _bert, "xlm-roberta": _bert, "camembert": _bert, "electra": _narrow, "albert": _narrow,
    "deberta-v2": _deberta, "distilbert": _distilbert, "mpnet": _bert, "modernbert": _bert,
    "t5": _t5, "mt5": _t5, "bart": _bart, "mbart": _bart, "pegasus": _bart,
}  # fmt: skip


def draw(random: Random) -> Config:
    """One config, ``model_type`` included."""
    name = random.choice(tuple(ARCHITECTURES))
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    values = {
        key: value
        for key, value in ARCHITECTURES[name](random).items()
        if value is not None or key == "q_lora_rank"
    }
    return {"model_type": name, **ids, **values}
