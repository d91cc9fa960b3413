"""Models without their weights: built on torch's meta device, where a tensor has a shape and no data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.errors import BadInput
from peft_lab.shapes import ModelKind, ModelShape, ModuleGroup

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

_ACTIVATIONS = ("hidden_act", "activation_function", "hidden_activation", "dense_act_fn")
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")


def make_config(config: Mapping[str, Any]) -> PretrainedConfig:
    """A transformers config from its stored dictionary (``config.json`` as published).

    Raises:
        BadInput: no ``model_type``, or one that the installed transformers does not know.
    """
    from transformers import AutoConfig

    values = dict(config)
    model_type = values.pop("model_type", None)
    if not model_type:
        raise BadInput("This config has no model_type, so the architecture is unknown.", "model")
    try:
        made = AutoConfig.for_model(model_type, **values)
        forget_kernels(made)
        return made
    except ValueError as error:
        raise BadInput(
            f"The installed transformers does not know the architecture '{model_type}'.", "model"
        ) from error


def forget_kernels(config: PretrainedConfig) -> None:
    """Leave the choice of attention and expert kernels to transformers.

    A config may name kernels that are not installed, or a repository to load them from, which would be code of its own;
    parameters and shapes do not depend on it.
    """
    for name in ("_attn_implementation", "_experts_implementation"):
        setattr(config, name, None)  # of its parts too


def build(
    config: PretrainedConfig, kind: ModelKind, num_labels: int | None = None, dtype: Any = None
) -> torch.nn.Module:
    """The model of ``config`` on the meta device: 0.1 to 0.4 s at any size.

    Args:
        kind: ``causal-lm``, ``encoder`` or ``seq2seq``.
        num_labels: when given, with a classification head of that many labels.
        dtype: parameter type; float32 when ``None``.
    """
    import torch
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
    )

    if num_labels is not None:
        config.num_labels = num_labels
        factory: Any = AutoModelForSequenceClassification
    else:
        factory = {"causal-lm": AutoModelForCausalLM, "encoder": AutoModel, "seq2seq": AutoModelForSeq2SeqLM}[
            kind
        ]
    with torch.device("meta"):
        model = factory.from_config(config, dtype=dtype or torch.float32)
    model.tie_weights()
    return model


def pattern(path: str) -> tuple[str, int | None]:
    """('model.layers.3.mlp.up_proj') -> ('model.layers.{}.mlp.up_proj', 3): the first index is the layer."""
    found = _LAYER.search(path)
    if not found:
        return path, None
    return path[: found.start()] + "{}" + path[found.end() :], int(found.group())


def read_shape(
    model: torch.nn.Module, config: PretrainedConfig, kind: ModelKind, name: str, title: str
) -> ModelShape:
    """Collapse a model's modules into groups that differ only in the layer index."""
    seen: set[int] = set()
    rows: dict[tuple[Any, ...], list[int]] = {}
    for path, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        if not own:
            continue
        tied = tuple(key for key, value in own.items() if id(value) in seen)
        seen.update(id(value) for value in own.values())
        collapsed, layer = pattern(path)
        shapes = tuple((key, tuple(value.shape)) for key, value in own.items())
        rows.setdefault((collapsed, type(module).__name__, shapes, tied, layer is None), []).append(
            layer or 0
        )
    groups = tuple(
        ModuleGroup(path, kind_, () if outside else tuple(layers), dict(shapes), tied)
        for (path, kind_, shapes, tied, outside), layers in rows.items()
    )
    text = config.get_text_config()
    heads = _first(text, "num_attention_heads", "n_head", "num_heads")
    hidden = _first(text, "hidden_size", "n_embd", "d_model")
    return ModelShape(
        name=name,
        title=title,
        kind=kind,
        model_type=config.model_type,
        hidden=hidden,
        num_layers=_first(text, "num_hidden_layers", "n_layer", "num_layers"),
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or getattr(text, "d_kv", None) or hidden // heads,
        intermediate=_intermediate(text, hidden),
        vocab=text.vocab_size,
        max_positions=_positions(text),
        activation=_first(text, *_ACTIVATIONS, default="gelu"),
        groups=groups,
    )


def _intermediate(config: Any, hidden: int) -> int:
    return _first(config, "intermediate_size", "n_inner", "d_ff", default=0) or 4 * hidden


def _positions(config: Any) -> int | None:
    """RoBERTa reserves two positions for padding, so its usable length is two short of its table."""
    limit: int | None = _first(config, "max_position_embeddings", "n_positions", default=None)
    if limit is not None and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        return limit - 2
    return limit


def _first(config: Any, *names: str, default: Any = BadInput) -> Any:
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    if default is BadInput:
        raise BadInput(
            f"The config of a '{config.model_type}' model states none of {', '.join(names)}.", "model"
        )
    return default
