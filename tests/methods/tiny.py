"""Tiny models of every supported architecture, random but always the same, and one batch for each."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from peft_lab.methods.base import MethodSpec
from peft_lab.models import meta
from peft_lab.models.heads import TaskType, task_type
from peft_lab.models.shapes import ModelKind, ModelShape

POSITIONS = 64
VOCAB = 50
LABELS = 2
SIDE = 8  # of an image
_LLAMA: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": POSITIONS,
}  # fmt: skip
_BERT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCAB,
}  # fmt: skip
CONFIGS: dict[str, tuple[ModelKind, dict[str, Any]]] = {
    "llama": ("causal-lm", {"model_type": "llama", **_LLAMA}),
    "llama-tied": ("causal-lm", {"model_type": "llama", **_LLAMA, "tie_word_embeddings": True}),
    "qwen2": ("causal-lm", {"model_type": "qwen2", **_LLAMA}),
    "gemma2": ("causal-lm", {"model_type": "gemma2", **_LLAMA, "head_dim": 16}),
    "gpt2": (
        "causal-lm",
        {
            "model_type": "gpt2",
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "vocab_size": VOCAB,
            "n_positions": POSITIONS,
        },
    ),
    "bloom": (
        "causal-lm",
        {"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCAB},
    ),
    "bert": ("encoder", {"model_type": "bert", **_BERT, "max_position_embeddings": POSITIONS}),
    "roberta": (
        "encoder",
        {"model_type": "roberta", **_BERT, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1},
    ),
    "vit": (
        "vision",
        {
            "model_type": "vit",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": 4,
        },
    ),
    "t5": (
        "seq2seq",
        {
            "model_type": "t5",
            "d_model": 32,
            "d_ff": 64,
            "d_kv": 8,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": VOCAB,
            "decoder_start_token_id": 0,
        },
    ),
}
MODELS = tuple(CONFIGS)
DECODERS = tuple(name for name, (kind, _) in CONFIGS.items() if kind == "causal-lm")
# The encoder's guises: bare, and with a head for the row or for every token. PEFT's wrapper of bare models hands them
# token ids.
PER_TOKEN = 2
_HEADS: dict[ModelKind, tuple[int, ...]] = {"encoder": (0, 1, PER_TOKEN), "vision": (1,)}
CASES = tuple((name, heads) for name, (kind, _) in CONFIGS.items() for heads in _HEADS.get(kind, (0,)))


def kind_of(name: str) -> ModelKind:
    return CONFIGS[name][0]


@cache
def shape_of(name: str) -> ModelShape:
    kind, values = CONFIGS[name]
    config = meta.make_config(values)
    return meta.read_shape(meta.build(config, kind), config, kind, name, name.capitalize())


@cache
def shape_under_head(name: str, head: int = 1) -> ModelShape:
    """What a classifier has besides its head: RoBERTa's has no pooler, nor has a BERT that labels tokens."""
    from dataclasses import replace

    from peft_lab.models.shapes import in_head

    kind, values = CONFIGS[name]
    config = meta.make_config(values)
    model = meta.build(config, kind, LABELS, per_token=head == PER_TOKEN)
    shape = meta.read_shape(model, config, kind, name, name)
    return replace(shape, groups=tuple(group for group in shape.groups if not in_head(group.path)))


def build(name: str, head: int = False) -> Any:
    """A fresh model with the same random weights every time, in evaluation mode."""
    import transformers

    kind, values = CONFIGS[name]
    config = meta.make_config(values)
    factory: Any = {
        "causal-lm": transformers.AutoModelForCausalLM,
        "encoder": transformers.AutoModel,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
        "vision": partial(transformers.AutoModel.from_config, add_pooling_layer=False),
    }[kind]
    if head:
        config.num_labels = LABELS
        factory = meta.auto_class(kind, True, head == PER_TOKEN)
    torch.manual_seed(0)
    model = getattr(factory, "from_config", factory)(config, dtype=torch.float32)
    with torch.no_grad():
        # Fresh models have zero biases and unit norms; give them values, so that nothing is right by accident.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def task_of(name: str, head: int = False) -> TaskType:
    return task_type(kind_of(name), bool(head), head == PER_TOKEN)


def batch(name: str, head: int = False) -> dict[str, Any]:
    """Three rows of seven tokens, one of them padded, or three images; labels where the model takes any."""
    generator = torch.Generator().manual_seed(1)
    if kind_of(name) == "vision":
        pictures = torch.randn(3, 3, SIDE, SIDE, generator=generator)
        return {"pixel_values": pictures, **({"labels": torch.tensor([0, 1, 0])} if head else {})}
    ids = torch.randint(3, VOCAB, (3, 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    rows: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if head == PER_TOKEN:
        rows["labels"] = (ids % LABELS).masked_fill(mask == 0, -100)
    elif head:
        rows["labels"] = torch.tensor([0, 1, 0])
    elif kind_of(name) == "causal-lm":
        rows["labels"] = ids.masked_fill(mask == 0, -100)
    elif kind_of(name) == "seq2seq":
        rows["labels"] = torch.randint(3, VOCAB, (3, 5), generator=generator)
    return rows


def outputs(model: Any, rows: dict[str, Any]) -> Any:
    """Logits, or the last hidden state of a bare encoder."""
    with torch.no_grad():
        result = model(**_with_labels(model, rows))
    return result.logits if "logits" in result else result.last_hidden_state


def loss(model: Any, rows: dict[str, Any]) -> Any:
    result = model(**_with_labels(model, rows))
    if result.get("loss") is not None:
        return result.loss
    # The pooler has to take part, so that what trains there gets a gradient.
    extra = 0 if result.get("pooler_output") is None else result.pooler_output.square().mean()
    return (result.last_hidden_state * _weights_like(result.last_hidden_state)).sum() + extra


def _with_labels(model: Any, rows: dict[str, Any]) -> dict[str, Any]:
    """The rows with labels for the virtual tokens before a text too, which PEFT leaves to its caller."""
    config: Any = getattr(model, "active_peft_config", None)
    if getattr(config, "task_type", None) != "TOKEN_CLS" or not config.is_prompt_learning:
        return rows
    ahead = torch.full((len(rows["labels"]), config.num_virtual_tokens), -100)
    return {**rows, "labels": torch.cat((ahead, rows["labels"]), dim=1)}


def _weights_like(tensor: Any) -> Any:
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2))


def apply(spec: MethodSpec, name: str, values: dict[str, Any], head: int = False) -> Any:
    """The method on a fresh model, with values checked and completed as everywhere."""
    model = build(name, head)
    torch.manual_seed(3)
    return spec.apply(model, shape_of(name), spec.require(shape_of(name), values), task_of(name, head))


def turned_round(file: Path) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Turn a matrix of a stored adapter round: its name, and its shape before and after."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    name = next(name for name, each in tensors.items() if each.dim() == 2 and each.shape[0] != each.shape[1])
    before = tuple(tensors[name].shape)
    tensors[name] = tensors[name].T.contiguous()
    save_file(tensors, file, {"format": "pt"})
    return name, before, tuple(tensors[name].shape)


def train_step(model: Any, rows: dict[str, Any], lr: float = 0.1) -> None:
    """One step of plain gradient descent in training mode, and back to evaluation."""
    model.train()
    torch.manual_seed(4)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr)
    loss(model, rows).backward()
    optimizer.step()
    optimizer.zero_grad()
    model.eval()
