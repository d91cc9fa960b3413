"""Build a model of any size without values, with a method applied, ready for a training step."""

from __future__ import annotations

import copy
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import BadInput, SimulationError
from peft_lab.core.later import torch
from peft_lab.engine import fake
from peft_lab.engine.fake import tensors_held
from peft_lab.engine.step import SteppedModel
from peft_lab.engine.switches import selective
from peft_lab.engine.tracker import MemoryRecorder, own_part
from peft_lab.methods.counting.count import drop_values, make_ready
from peft_lab.models.catalogue import REFUSALS, reason
from peft_lab.models.meta import auto_class, head_apart, shapes_only
from peft_lab.models.own import DEPTH_FIELDS
from peft_lab.models.shapes import CLASSIFIERS, ModelKind, in_head
from peft_lab.training.step import KEPT

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PretrainedConfig

    from peft_lab.methods.base import Formula
    from peft_lab.models.shapes import ModelShape

#: Fields of PEFT configs that name modules, and the pattern of a layer number in them: a digit, or a class of digits,
#: that is not part of a word (``c_attn2`` and ``wi_0`` are names).
_NAMING = re.compile(r"target_modules|exclude_modules|modules_to_save|target_parameters|\w+_pattern")
_LAYER_NUMBER = re.compile(r"(?<!\w)\d|\\d(?![+*])")

#: Applies a method to a meta model of the given depth and returns the model to train.
Method = Callable[["torch.nn.Module", int], "torch.nn.Module"]
#: Places a model, given its repeated layers, on several devices and returns the model to step.
Split = Callable[["torch.nn.Module", Sequence["torch.nn.Module"]], "torch.nn.Module"]


def as_it_is(model: torch.nn.Module, layers: Sequence[torch.nn.Module]) -> torch.nn.Module:
    """Return the model unchanged, on one device."""
    return model


@dataclass(frozen=True)
class Quantise:
    """How the base is stored: in 4 bits (``kind`` nf4 or fp4; ``double``: quantise the constants too; computing in
    ``compute``, None for the base's own precision) or in 8."""

    bits: int
    kind: str = "nf4"
    double: bool = True
    compute: torch.dtype | None = None


@dataclass(frozen=True)
class Blueprint:
    """Everything needed to build the model to train, at its own depth or a smaller one.

    Attributes:
        method: a PEFT config, a callable that applies a method, or None for full fine-tuning.
        kind: ``causal-lm``, ``seq2seq``, ``vision``, or ``encoder`` (reads text and has a classification head).
        num_labels: classes of that head. per_token: whether it labels every token rather than the row.
        alike: whether all layers are known to get the same adapter, so a few represent all (:func:`layers_alike`).
        source: a string that is equal for equal models; empty if unknown.
        adapter_dtype: data type of the parameters that the method adds; empty: as the method leaves them.
        attention, recompute: as in :class:`peft_lab.engine.request.StepSetting`.
    """

    config: PretrainedConfig
    kind: ModelKind
    method: PeftConfig | Method | None
    dtype: torch.dtype
    quantise: Quantise | None = None
    checkpointing: bool = False
    num_labels: int = 2
    per_token: bool = False
    alike: bool = False
    source: str = ""
    adapter_dtype: str = ""
    attention: str = ""
    recompute: str = ""

    @property
    def depth(self) -> int:
        """Return the number of repeated layers (of the decoder if there are two stacks). Raises SimulationError: the
        config does not give a number of layers."""
        text = self.config.get_text_config()
        for name in DEPTH_FIELDS:
            if getattr(text, name, None):
                return int(getattr(text, name))
        raise SimulationError(
            f"The config of a '{self.config.model_type}' model does not say how many layers it has."
        )

    @property
    def period(self) -> int:
        """Return how many layers make one repetition: 2 if two kinds alternate, and so on; 1 if all are alike."""
        types = getattr(self.config.get_text_config(), "layer_types", None)
        if not types or len(types) != self.depth:
            return 1
        return next(
            (
                p
                for p in range(1, len(types))
                if len(types) % p == 0 and list(types) == list(types[:p]) * (len(types) // p)
            ),
            len(types),
        )

    def key(self) -> str | None:
        """Return a string that identifies what is built; None if a callable applies the method."""
        if callable(self.method):
            return None
        method = None if self.method is None else self.method.to_dict()
        parts = [self.config.to_dict(), method, str(self.dtype), repr(self.quantise), self.kind]
        parts.append(f"{self.num_labels} {self.per_token} {self.adapter_dtype} {self.attention}")
        return json.dumps(parts, sort_keys=True, default=str)

    def at_depth(self, depth: int) -> PretrainedConfig:
        """Return a copy of the config with ``depth`` layers and everything else unchanged."""
        config = copy.deepcopy(self.config)
        text = config.get_text_config()
        own = self.depth
        if depth == own:  # some configs do not let it be set
            return config
        for name in DEPTH_FIELDS:
            if getattr(text, name, None) == own:
                setattr(text, name, depth)
        types = getattr(text, "layer_types", None)
        if types is not None and len(types) == own and "layer_types" in vars(text):  # Mamba-2 computes it
            text.layer_types = types[:depth]
        return config

    def build(self, depth: int | None = None) -> torch.nn.Module:
        """Build the model to train on the meta device (PEFT's host tensors on the CPU)."""
        depth = depth or self.depth
        config = self.at_depth(depth)
        if self.kind in CLASSIFIERS:
            config.num_labels = self.num_labels
        # A decoder's classification head reads the last token that is not padding, so it needs a padding token.
        if self.kind == "encoder" and config.get_text_config().pad_token_id is None:
            config.get_text_config().pad_token_id = 0
        factory = auto_class(self.kind, self.kind in CLASSIFIERS, self.per_token)
        with torch.device("meta"):
            eager = {"attn_implementation": "eager"} if self.attention == "eager" else {}
            model = factory.from_config(config, dtype=self.dtype, **eager)
        head_apart(model, config)
        if self.quantise is not None:
            how = self.quantise
            fake.quantise_meta(model, how.bits, how.kind, how.double, how.compute)
        if self.checkpointing:
            # As in the usual recipes: gradients flow only if the frozen embedding's output requires one.
            more = {"context_fn": selective} if self.recompute else {}
            model.gradient_checkpointing_enable({"use_reentrant": False, **more})
            model.enable_input_require_grads()
        if self.method is None:
            return model
        own, method = set(model.parameters()), self.method
        if callable(method):
            model = method(model, depth)
        else:
            method = copy.deepcopy(method)
            with fake.standins_while_building(method):
                model = _apply(model, method, depth)
        for name, parameter in model.named_parameters() if self.adapter_dtype else ():
            # PEFT casts the output of prompt encoders.
            if parameter not in own and parameter.is_floating_point() and not (in_head(name) or KEPT in name):
                parameter.data = parameter.data.to(getattr(torch, self.adapter_dtype))
        return model

    def counted(self) -> torch.nn.Module:
        """Build the model for counting its parameters: at its own depth, all on the meta device, without values. Raises
        BadInput: the method is not a PEFT config, or PEFT cannot apply it to this model."""
        from peft import PeftConfig

        if not isinstance(self.method, PeftConfig):
            raise BadInput("Only a PEFT config can be counted.", "adapter_config")
        config = copy.deepcopy(self.method)
        drop_values(config)
        with shapes_only():
            return _apply(replace(self, method=None).build(), config, self.depth)


def layers_alike(shape: ModelShape, formula: Callable[[ModelShape], Formula]) -> bool:
    """Return whether all layers have the same modules and the method adds the same to each, and nothing that layers
    share except virtual tokens before the first layer. This reads the method's formula, which tests compare with
    PEFT's own count, and builds no model."""
    every = tuple(range(shape.num_layers))
    outside = tuple(group.path for group in shape.groups if not group.layers)
    terms = formula(shape).terms
    before = [term for term in terms if term.module.startswith("prompt_encoder.")]
    if before:  # a prefix of keys and values grows with the layers
        deeper = formula(replace(shape, num_layers=shape.num_layers + 1)).terms
        outside += tuple(term.module for term in before if term in deeper)
    return all(group.layers in ((), every) for group in shape.groups) and all(
        term.count == len(every) if "{}" in term.module else term.module.startswith(outside) for term in terms
    )


def names_layers(method: PeftConfig | Method | None) -> bool:
    """Return whether a PEFT config selects layers by number, so that it means something else on a shallower model."""
    if method is None or callable(method):
        return False
    if any(getattr(method, name, None) is not None for name in ("layers_to_transform", "layer_replication")):
        return True
    named = (value for name, value in vars(method).items() if _NAMING.fullmatch(name))
    texts = (text for value in named for text in ([value] if isinstance(value, str) else value or ()))
    return any(isinstance(text, str) and _LAYER_NUMBER.search(text) for text in texts)


def _apply(model: torch.nn.Module, config: PeftConfig, depth: int) -> torch.nn.Module:
    from peft import get_peft_model

    # Stored prompt configs contain the depth of the model they were made for.
    if getattr(config, "num_layers", None) is not None:
        config.num_layers = depth  # type: ignore[attr-defined]
    make_ready(model, config)
    try:
        adapted: torch.nn.Module = get_peft_model(model, config)
    except REFUSALS as error:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise BadInput(
            f"PEFT cannot apply this {kind} config to this model: {reason(error)}", "adapter_config"
        ) from error
    return adapted


def adapted_modules(modules: Iterable[torch.nn.Module]) -> int:
    """Return how many modules PEFT has put an adapter on."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return sum(isinstance(inner, BaseTunerLayer) for module in modules for inner in module.modules())


def stacked_layers(model: torch.nn.Module, depth: int) -> Sequence[torch.nn.Module]:
    """Return the list of repeated blocks; empty if no stack has that length, or more than one."""
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList)
        and len(module) == depth
        and len({type(m) for m in module}) == 1
        and any(True for _ in module[0].children())
    ]
    return list(found[0]) if len(found) == 1 else []


def output_head(model: torch.nn.Module, kind: str) -> torch.nn.Module | None:
    """Return the layer that maps hidden states to the vocabulary; None for a classifier or a model without one."""
    if kind in CLASSIFIERS:
        return None
    base: Any = model
    while not hasattr(base, "get_output_embeddings") or base.get_output_embeddings() is None:
        inner = getattr(base, "base_model", None) or getattr(base, "model", None)
        if inner is None or inner is base:
            return None
        base = inner
    head = base.get_output_embeddings()
    return head if head is not None else None


def make_subject(
    model: torch.nn.Module,
    blueprint: Blueprint,
    recorder: MemoryRecorder,
    depth: int,
    split: Split = as_it_is,
) -> SteppedModel:
    """Register the model's tensors with the recorder, on a fake device. ``split``: puts it on several devices first."""
    constants = fake.make_states(model) if blueprint.quantise is not None else set()
    layers = stacked_layers(model, depth)
    head = output_head(model, blueprint.kind)
    model = split(model, layers)
    owner: dict[int, int] = {}
    for index, layer in enumerate(layers):
        for tensor in tensors_of(layer):
            owner.setdefault(own_part(tensor).untyped_storage()._cdata, index // blueprint.period)
    for tensor in tensors_of(model):
        key = own_part(tensor).untyped_storage()._cdata
        adapter = tensor.requires_grad and blueprint.method is not None
        part = "quantisation" if key in constants else "adapter" if adapter else "weights"
        recorder.see(tensor, part, owner.get(key))
    return SteppedModel(
        model=model,
        kind=blueprint.kind,
        layers=layers,
        period=blueprint.period,
        head=head,
    )


def tensors_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """Return parameters, buffers and tensor attributes, each storage once, in order, with their shapes unchanged."""
    seen: set[int] = set()
    found: list[torch.Tensor] = []
    for submodule in module.modules():
        own = [t for t in (*submodule._parameters.values(), *submodule._buffers.values()) if t is not None]
        for name, value in vars(submodule).items():
            if name not in ("_parameters", "_buffers", "_modules") and not name.endswith("_hooks"):
                own += tensors_held(value)
        for tensor in own:
            key = own_part(tensor).untyped_storage()._cdata
            if key not in seen:
                seen.add(key)
                found.append(tensor)
    return found


# ----------------------------------------
# A cache of built models: simulations that differ only in batch or length copy one instead of building it again.
#
# Building takes a fifth of a simulation, mostly because PEFT visits every module; a copy takes a sixth of that.


_KEPT = 4
#: Keyed by the blueprint's ``source`` and depth; ``None`` for a model whose copy differs from it.
_prototypes: OrderedDict[tuple[str, int], torch.nn.Module | None] = OrderedDict()


def fresh_copy(blueprint: Blueprint, depth: int) -> torch.nn.Module:
    """Return a model that has not been stepped yet, as :meth:`Blueprint.build` makes it."""
    if not blueprint.source:
        return blueprint.build(depth)
    key = (blueprint.source, depth)
    if key in _prototypes:
        _prototypes.move_to_end(key)
        kept = _prototypes[key]
        return blueprint.build(depth) if kept is None else _copy(kept)
    built = blueprint.build(depth)
    copied = _copy(built)
    # bytes, dtype and requires_grad of every storage, which differ if a copy no longer shares tensors
    facts, other = (
        [(one.untyped_storage().nbytes(), one.dtype, one.requires_grad) for one in tensors_of(model)]
        for model in (built, copied)
    )
    _prototypes[key] = built if facts == other else None
    if len(_prototypes) > _KEPT:
        _prototypes.popitem(last=False)
    return built if _prototypes[key] is None else copied


def _copy(model: torch.nn.Module) -> torch.nn.Module:
    """Copy the whole model, including attributes set on its parameters, which torch leaves behind."""
    memo: dict[int, Any] = {}
    copied = copy.deepcopy(model, memo)
    for parameter in model.parameters():
        vars(memo[id(parameter)]).update(vars(parameter))
    return copied
