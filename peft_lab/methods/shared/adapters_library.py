"""Folders of the adapters library (release 1.3.0): what its config says, and what its tensors are called.

    adapter_config.json     config, hidden_size, model_class, model_name, model_type, name, version
    adapter.safetensors     or pytorch_adapter.bin, the same tensors
    head_config.json, model_head.safetensors or pytorch_model_head.bin      of a classifier

Its weights stand beside the module that they adapt, and ours under it:

    bert      encoder.layer.0.output.adapters.NAME.adapter_down.0       encoder.layer.0.output.dense.bottleneck.down
    llama     model.layers.0.output_adapters.adapters.NAME.adapter_up   model.layers.0.mlp.down_proj.bottleneck.up
    t5        encoder.block.0.layer.1.adapters.NAME.adapter_up          ...layer.1.DenseReluDense.wo.bottleneck.up

This module reads no tensors: :mod:`peft_lab.methods.shared.adapters_files` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from peft_lab.errors import BadInput
from peft_lab.methods.knobs import Values
from peft_lab.methods.shared import adapters_places as places
from peft_lab.methods.shared import bottleneck
from peft_lab.models.shapes import ModelShape

VERSION = "adapters.1.3.0"
FIELD = "adapter"
#: What of a config decides the placement: attention, feed-forward part, through the norm, beside the maps.
_PLACES: Mapping[str, tuple[bool, bool, bool, bool]] = {
    "double_seq_bn": (True, True, False, False),
    "seq_bn": (False, True, True, False),
    "par_bn": (False, True, False, True),
}
_DECIDES = ("mh_adapter", "output_adapter", "original_ln_before", "is_parallel")
#: Settings that have to be so, and what an adapter with another one is called in a refusal.
_PLAIN: Mapping[str, tuple[Any, str]] = {
    "phm_layer": (False, "a Compacter, whose matrices are Kronecker sums"),
    "inv_adapter": (None, "one with invertible adapters on the embeddings"),
    "cross_adapter": (False, "one on cross-attention"),
    "use_gating": (False, "one with a gate"),
    "ln_before": (False, "one with a layer norm of its own"),
    "ln_after": (False, "one with a layer norm of its own"),
    "original_ln_after": (True, "one that leaves the model's norm out"),
    "residual_before_ln": (True, "one whose residual comes from elsewhere"),
    "leave_out": ([], "one that leaves layers out"),
    "dropout": (0.0, "one with dropout"),
    "stochastic_depth": (0.0, "one that drops layers"),
}
#: Of those the ones that the library writes and which change nothing here.
_DEFAULTS: Mapping[str, Any] = {
    "adapter_residual_before_ln": False, "factorized_phm_W": True, "factorized_phm_rule": False,
    "hypercomplex_nonlinearity": "glorot-uniform", "init_weights_seed": None, "inv_adapter_reduction_factor": None,
    "learn_phm": True, "phm_bias": True, "phm_c_init": "normal", "phm_dim": 4, "phm_init_range": 0.0001,
    "phm_rank": 1, "shared_W_phm": False, "shared_phm_rule": True,
}  # fmt: skip
_ARCHITECTURES: Mapping[str, str] = {
    "prefix_tuning": "a prefix", "lora": "LoRA or IA³ in its own format", "mtl_lora": "LoRA for several tasks",
    "union": "a union of several kinds (as MAM and UniPELT are)", "prompt_tuning": "a prompt", "reft": "ReFT",
}  # fmt: skip
_FUNCTIONS: Mapping[str, str] = {
    "relu": "relu",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
#: Before files named a release, two functions had other names.
_OLD_FUNCTIONS: Mapping[str, str] = {"gelu": "gelu_new", "gelu_orig": "gelu"}
PARTS: Mapping[str, str] = {"down": "adapter_down.0", "up": "adapter_up"}
PREFIXES = ("bert.", "roberta.", "model.", "transformer.")


def is_library(content: Any) -> bool:
    """Whether this is the content of an ``adapter_config.json`` that the adapters library wrote."""
    return isinstance(content, Mapping) and "config" in content and "peft_type" not in content


def values_of(content: Mapping[str, Any], shape: ModelShape) -> dict[str, Any]:
    """The knobs that a library's config stands for on a model.

    Raises:
        BadInput: a config that is not built here, or one of another model.
    """
    config = content.get("config")
    if not isinstance(config, Mapping):
        raise BadInput("The adapters library's config names no settings (its 'config' is empty).", FIELD)
    _refuse_others(config)
    placement = _placement(config)
    _require_model(content, shape)
    values: dict[str, Any] = {
        "placement": placement,
        "bottleneck": _width(config.get("reduction_factor"), shape),
        "nonlinearity": _nonlinearity(content, config),
    }
    scaling = config.get("scaling", 1.0)
    if isinstance(scaling, bool) or not isinstance(scaling, int | float):
        raise _unbuilt("one that learns its scale")
    if placement in places.SCALED:
        values["scale"] = float(scaling)
    elif scaling != 1.0:
        raise _unbuilt(f"{placement} with its output multiplied by {scaling:g}")
    return values


def _refuse_others(config: Mapping[str, Any]) -> None:
    kind = config.get("architecture")
    if kind is not None:
        raise _unbuilt(_ARCHITECTURES.get(str(kind), f"'{str(kind)[:40]}'"))
    for name, (plain, called) in _PLAIN.items():
        if config.get(name, plain) != plain:
            raise _unbuilt(called)


def _unbuilt(what: str) -> BadInput:
    known = ", ".join(places.LIBRARY)
    return BadInput(
        f"This folder of the adapters library holds {what}; opened are {known} as they are.", FIELD
    )


def _placement(config: Mapping[str, Any]) -> str:
    decides = tuple(bool(config.get(name, False)) for name in _DECIDES)
    for placement, wanted in _PLACES.items():
        if decides == wanted:
            return placement
    raise _unbuilt(
        "a placement of one's own (" + ", ".join(f"{n} {bool(config.get(n))}" for n in _DECIDES) + ")"
    )


def _require_model(content: Mapping[str, Any], shape: ModelShape) -> None:
    kind, hidden = content.get("model_type"), content.get("hidden_size")
    if kind != shape.model_type or hidden != shape.hidden:
        raise BadInput(
            f"This adapter was made for a {kind} model of width {hidden}; {shape.title} is a {shape.model_type} of "
            f"width {shape.hidden}.",
            FIELD,
        )


def _width(factor: Any, shape: ModelShape) -> int:
    """As the library works it out. A factor may differ by layer there."""
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 0:
        raise _unbuilt("one whose width differs by layer" if isinstance(factor, Mapping) else "no width")
    return max(1, int(shape.hidden // factor))


def _nonlinearity(content: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    named = str(config.get("non_linearity")).lower()
    found = named if "version" in content else _OLD_FUNCTIONS.get(named, named)
    if found not in _FUNCTIONS:
        raise _unbuilt(f"one with the function {found[:40]}")
    return _FUNCTIONS[found]


def same_in_library(shape: ModelShape, placement: str) -> str | None:
    """The library's placement that computes the same on this model; ``None`` where it has none."""
    if not places.hosts(shape, "seq_bn"):
        return None
    if placement in places.LIBRARY:
        return placement
    after = shape.model_type in ("bert", "roberta", "xlm-roberta")
    same = {"houlsby": shape.kind != "seq2seq", "parallel": after}
    names = {"houlsby": "double_seq_bn", "parallel": "par_bn"}
    return names[placement] if same.get(placement) else None


def content_of(
    shape: ModelShape, values: Values, name: str, model_class: str, model_name: str
) -> dict[str, Any]:
    """The ``adapter_config.json`` that the library writes for these settings.

    Args:
        values: complete. name: of the adapter. model_class: of transformers. model_name: id or folder of the base.

    Raises:
        BadInput: a placement that the library has not got on this model.
    """
    placement = same_in_library(shape, values["placement"])
    if placement is None:
        raise BadInput(
            f"The adapters library has no placement that is {values['placement']} on {shape.title}; "
            + (
                f"train with {', '.join(places.LIBRARY)}."
                if places.hosts(shape, "seq_bn")
                else "none is known there."
            ),
            "placement",
        )
    functions = {ours: theirs for theirs, ours in _FUNCTIONS.items()} | {"silu": "swish"}
    parallel = placement == "par_bn"
    config = {
        **_DEFAULTS,
        **{setting: plain for setting, (plain, _) in _PLAIN.items()},
        **dict(zip(_DECIDES, _PLACES[placement], strict=True)),
        "init_weights": "mam_adapter" if parallel else "bert",
        "non_linearity": functions[values["nonlinearity"]],
        "reduction_factor": _factor(shape.hidden, values["bottleneck"]),
        "scaling": float(values["scale"]) if parallel else 1.0,
    }
    return {"config": config, **about(shape, model_class, model_name), "name": name}


def about(shape: ModelShape, model_class: str, model_name: str) -> dict[str, Any]:
    """What the library says of the model in every config."""
    return {
        "hidden_size": shape.hidden, "model_class": model_class, "model_name": model_name,
        "model_type": shape.model_type, "version": VERSION,
    }  # fmt: skip


def _factor(hidden: int, width: int) -> float:
    """A factor by which the library comes to that width: it rounds the quotient down."""
    exact = hidden / width
    return exact if int(hidden // exact) == width else hidden / (width + 0.5)


def theirs(model_type: str, host: str, name: str) -> str:
    """Where the library keeps the adapter of a host."""
    parts = host.split(".")
    if model_type in ("bert", "roberta", "xlm-roberta"):
        return ".".join([*parts[:-1], "adapters", name])
    if model_type == "t5":
        return ".".join([*parts[:-2], "adapters", name])
    where = "attention_adapters" if "attn" in parts[-2] else "output_adapters"
    return ".".join([*parts[:-2], where, "adapters", name])


def names(shape: ModelShape, hosts: Iterable[str], name: str) -> dict[str, str]:
    """The library's name of each tensor by ours. ``hosts``: their paths in the model that holds the adapter."""
    return {
        f"{host}.{bottleneck.CHILD}.{part}.{kind}": f"{theirs(shape.model_type, host, name)}.{called}.{kind}"
        for host in hosts
        for part, called in PARTS.items()
        for kind in ("weight", "bias")
    }


def bare(name: str) -> str:
    """A tensor's name without the model's prefix: a bare model and one with a head differ by it alone.

    >>> bare("bert.encoder.layer.0.output.adapters.here.adapter_up.bias")
    'encoder.layer.0.output.adapters.here.adapter_up.bias'
    """
    prefix = next((each for each in PREFIXES if name.startswith(each)), "")
    return name.removeprefix(prefix)
