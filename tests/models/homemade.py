"""Models as somebody keeps them in a folder: config, safetensors and tokenizer, a few thousand random weights."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

from peft_lab.models import meta
from peft_lab.models.images import PROCESSOR
from peft_lab.models.shapes import ModelKind
from tests.takeaway.conftest import byte_tokenizer

VOCAB = 260  # a byte a token, and the special ones
POSITIONS = 512
_SIZE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
}  # fmt: skip
_GROUPED = {**_SIZE, "num_key_value_heads": 2}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_SLIDING = {"sliding_window": 16, "head_dim": 8, "query_pre_attn_scalar": 8}
_BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": POSITIONS,
}  # fmt: skip
_SEEN: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 4,
}  # fmt: skip
_T5 = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4}
CONFIGS: dict[str, tuple[ModelKind, dict[str, Any]]] = {
    "gpt2": ("causal-lm", _GPT),
    "opt": ("causal-lm", {**_SIZE, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": ("causal-lm", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": ("causal-lm", {**_SIZE, "ffn_hidden_size": 48}),
    "qwen2": ("causal-lm", _GROUPED),
    "qwen3": ("causal-lm", {**_GROUPED, "head_dim": 8}),
    "gemma2": ("causal-lm", {**_GROUPED, **_SLIDING}),
    "gemma3_text": ("causal-lm", {**_GROUPED, **_SLIDING}),
    "mistral": ("causal-lm", _GROUPED),
    "phi": ("causal-lm", _GROUPED),
    "mixtral": ("causal-lm", {**_GROUPED, **_EXPERTS}),
    "bert": ("encoder", _SIZE),
    "roberta": ("encoder", {**_SIZE, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}),
    "deberta-v2": (
        "encoder",
        {**_SIZE, "relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 8},
    ),
    "t5": ("seq2seq", _T5),
    "bart": ("seq2seq", _BART),
    "vit": ("vision", {**_SEEN, "intermediate_size": 48}),
    "dinov2": ("vision", {**_SEEN, "mlp_ratio": 2}),
}


def model(name: str) -> Any:
    """A fresh model with random weights, the same every time."""
    import transformers

    kind, values = CONFIGS[name]
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    if kind == "seq2seq":
        ids["decoder_start_token_id"] = 0
    read = {} if kind == "vision" else {"vocab_size": VOCAB, **ids}
    config = meta.make_config({"model_type": name, **read, **values})
    factory: Any = {
        "causal-lm": transformers.AutoModelForCausalLM,
        "encoder": transformers.AutoModel,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
        "vision": transformers.AutoModelForImageClassification,
    }[kind]
    torch.manual_seed(5)
    return factory.from_config(config, dtype=torch.float32)


def folder(name: str, place: Path) -> str:
    """Saved as ``save_pretrained`` does it; the folder's path."""
    model(name).save_pretrained(place)
    if CONFIGS[name][0] == "vision":
        (place / PROCESSOR).write_text(
            json.dumps({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]})
        )
    else:
        byte_tokenizer().save_pretrained(place)
    return str(place)


def images(place: Path, each: int = 8) -> str:
    """A folder of noisy images, red ones as JPEG and blue ones as PNG; its path."""
    from PIL import Image

    chance = random.Random(0)
    for name, colour, ending in (("red", (200, 40, 60), "jpg"), ("blue", (50, 60, 200), "png")):
        (place / name).mkdir(parents=True)
        for number in range(each):
            made = Image.new("RGB", (20, 18))
            for at in range(20 * 18):
                red, green, blue = (value + chance.randint(-40, 40) for value in colour)
                made.putpixel((at % 20, at // 20), (red, green, blue))
            made.save(place / name / f"{number}.{ending}")
    return str(place)
