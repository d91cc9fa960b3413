"""Decide how a method is written: with PEFT's config as Python text, in plain torch, or with this package.

Full fine-tuning, BitFit, bottleneck adapters and deep prompts on encoders are written out in plain torch. Any other
method of ours is imported from this package; the file says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.core import inspector
from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.adapters import spec as adapters
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.bitfit import spec as bitfit
from peft_lab.methods.bitfit.spec import SUBSET_ROLES, BitFit
from peft_lab.methods.full import spec as full
from peft_lab.methods.full.spec import FullFineTuning
from peft_lab.methods.ptuning import spec as ptuning
from peft_lab.methods.ptuning.spec import PTuning, is_deep
from peft_lab.methods.shared import bottleneck
from peft_lab.methods.shared.peft_backed import config_of
from peft_lab.models.catalogue import resolve
from peft_lab.models.heads import CLASSIFYING, TaskType
from peft_lab.models.loading import KEPT_WHOLE
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelEntry, ModuleGroup
from peft_lab.takeaway.generator import literal

# The text is derived from the config object that the method itself makes, compared field by field with PEFT's
# defaults, so it shows what was done, for every method. Making the object imports peft, in the inspector process.


TOKENIZER = "tokenizer_name_or_path"
# Set by PEFT itself when the config is made or applied.
_OWN = frozenset({"peft_type", "peft_version", "auto_mapping", "inference_mode", "base_model_name_or_path"})


@dataclass(frozen=True)
class PeftCall:
    """The construction of one PEFT config.

    Attributes:
        name: the class, such as ``LoraConfig``.
        arguments: its keyword arguments, in the order in which to write them.
        virtual_tokens: whether it is one of PEFT's prompt methods.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...]
    virtual_tokens: bool

    def source(self, tokenizer: str) -> str:
        """Return the call, one argument a line. ``tokenizer`` is the Python expression of the tokenizer's path."""
        lines = [
            f"    {name}={tokenizer if name == TOKENIZER else literal(value)},\n"
            for name, value in self.arguments
        ]
        return f"{self.name}(\n{''.join(lines)})"


def peft_call(
    entry: ModelEntry, method: MethodSpec, values: Mapping[str, Any], task_type: TaskType
) -> PeftCall | None:
    """Return the config of complete values; ``None`` for a method that PEFT does not have. Raises BadInput if a knob
    that is not at its default is neither in the config nor in the quantisation of the base, so the plain libraries
    would do something else."""
    if type(method).config is MethodSpec.config:
        return None
    call, fields = inspector.ask(_read, entry.name, method.slug, dict(values), task_type)
    if call is None:
        return None
    held = fields | set(_bitsandbytes(method.quantization(values)))
    for knob in method.knobs:
        if knob.of != "method":
            continue  # written with the optimizer, or where the method is applied
        if knob.name not in held and values[knob.name] != method.defaults(entry.shape)[knob.name]:
            raise BadInput(
                f"'{knob.label}' is not part of PEFT's {call.name}, so a script without PEFT Lab cannot repeat it.",
                knob.name,
            )
    return call


def _read(
    model: str, slug: str, values: Mapping[str, Any], task_type: TaskType
) -> tuple[PeftCall | None, frozenset[str]]:
    """Return PEFT's config call, if any, and the field names of its class. Runs in the inspector process."""
    from dataclasses import MISSING, fields

    from peft.config import PromptLearningConfig

    method = get_method(slug)
    config = config_of(method, resolve(model).shape, values, task_type)
    if config is None:
        return None, frozenset()
    main = {knob.name for knob in method.knobs if not knob.advanced and knob.kind != "bool"}
    arguments: dict[str, Any] = {} if task_type == "IMAGE_CLS" else {"task_type": task_type}
    for field in fields(config):
        if not field.init or field.name in _OWN:
            continue
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = _plain(getattr(config, field.name), values.get(field.name, ()))
        if value != _plain(default, ()) or (field.name in main and value is not None):
            arguments[field.name] = value
    prompts = isinstance(config, PromptLearningConfig)
    call = PeftCall(type(config).__name__, tuple(arguments.items()), prompts)
    return call, frozenset(field.name for field in fields(config))


def _plain(value: Any, order: Any) -> Any:
    """Return enumerations by value, sets as sorted lists: PEFT keeps target names as sets, whose order varies."""
    if isinstance(value, set | frozenset):
        known = list(order)
        return sorted(value, key=lambda name: (known.index(name) if name in known else len(known), str(name)))
    if isinstance(value, tuple):
        return list(value)
    return getattr(value, "value", value)


def quantisation_source(how: Quantization) -> str:
    """Return the construction of transformers' ``BitsAndBytesConfig`` for a base stored like this."""
    lines = [f"    {name}={text},\n" for name, text in _bitsandbytes(how).items()]
    lines.append(f"    llm_int8_skip_modules={literal(KEPT_WHOLE)},\n")
    return f"BitsAndBytesConfig(\n{''.join(lines)})"


def _bitsandbytes(how: Quantization | None) -> dict[str, str]:
    if how is None:
        return {}
    if how.bits == 8:
        return {"load_in_8bit": "True"}
    return {
        "load_in_4bit": "True",
        "bnb_4bit_quant_type": literal(how.kind),
        "bnb_4bit_use_double_quant": literal(how.double),
        "bnb_4bit_compute_dtype": f"torch.{how.compute_dtype}",
    }


@dataclass(frozen=True)
class AdapterPlace:
    """Where bottleneck adapters of one kind sit, as regular expressions for the ends of module paths.

    Attributes:
        reads: the other modules that they need: the one whose input they read, the norm that they go through.
    """

    host: str
    inputs: int
    outputs: int
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Applied:
    """A method's settings with what follows from them for the templates ``method_*.py.j2``.

    Attributes:
        way: ``peft``, ``full``, ``bitfit``, ``adapters``, ``deep`` (prompts on an encoder) or ``ours``.
    """

    way: str
    method: MethodSpec
    entry: ModelEntry
    values: Mapping[str, Any]
    call: PeftCall | None
    task_type: TaskType

    @property
    def libraries(self) -> tuple[str, ...]:
        """Return the packages needed beside torch and transformers."""
        return {"peft": ("peft",), "ours": ("peft", "safetensors")}.get(self.way, ("safetensors",))

    @property
    def in_plain_torch(self) -> bool:
        return self.way not in ("peft", "ours")

    @property
    def classifies(self) -> bool:
        """Return whether the model has a classification head, which is trained as well."""
        return self.task_type in CLASSIFYING

    @property
    def quantization(self) -> Quantization | None:
        return self.method.quantization(self.values)

    @property
    def stored(self) -> str:
        """Return the Python text that says how the base is quantised."""
        assert self.quantization is not None
        return quantisation_source(self.quantization)

    @property
    def saved_config(self) -> dict[str, Any]:
        """Return what PEFT Lab's own loader reads beside the tensors of a method in plain torch."""
        if self.way == "adapters":
            return {"peft_type": adapters.PEFT_TYPE, **self.values, "task_type": self.task_type}
        if self.way == "deep":
            tokens = self.values["num_virtual_tokens"]
            return {"peft_type": ptuning.DEEP_TYPE, "num_virtual_tokens": tokens}
        return {"peft_type": full.PEFT_TYPE if self.way == "full" else bitfit.PEFT_TYPE}

    # -- BitFit --------------------------------------------------------------------------------------------------

    @property
    def bias_endings(self) -> str:
        """Return the ends of the trained parameters' names, as Python text."""
        if self.values["subset"] == "all":
            return '"bias"'
        paths = [group.path for group, _ in self.entry.shape.biases if group.role in SUBSET_ROLES]
        endings = [literal(f"{path.rpartition('{}')[2]}.bias") for path in paths]
        return f"({', '.join(endings)}{',' if len(endings) == 1 else ''})"

    # -- prompts -------------------------------------------------------------------------------------------------

    @property
    def starts_prefix(self) -> bool:
        """Return whether PEFT fills a prefix from a text."""
        is_prefix = self.call is not None and self.call.name == "PrefixTuningConfig"
        return is_prefix and self._from_text and not self.values.get("prefix_projection", False)

    @property
    def starts_words(self) -> bool:
        """Return whether P-Tuning's encoder starts from a text."""
        return self.call is not None and self.call.name == "PromptEncoderConfig" and self._from_text

    @property
    def starts_from_text(self) -> bool:
        """Return whether the code that applies the method reads ``tokenizer``."""
        return self.starts_prefix or self.starts_words or (self.way == "deep" and self._from_text)

    @property
    def _from_text(self) -> bool:
        return self.values.get("init_weights") == "text"

    @property
    def repeated_text(self) -> str:
        """Return a Python expression that repeats the start text to at least as many tokens as are virtual."""
        return f'" ".join([{literal(self.values["init_text"])}] * {self.values["num_virtual_tokens"]})'

    # -- bottleneck adapters -------------------------------------------------------------------------------------

    @property
    def function(self) -> str:
        nonlinearity = self.values["nonlinearity"]
        return "torch.tanh" if nonlinearity == "tanh" else f"torch.nn.functional.{nonlinearity}"

    @property
    def places(self) -> list[AdapterPlace]:
        return [
            AdapterPlace(
                _pattern(host),
                bottleneck.place_inputs(host, entrance),
                host.out_features,
                tuple(_pattern(group) for group in (entrance, self._norm_after(host)) if group is not None),
            )
            for host, entrance in self._hosts
        ]

    @property
    def _hosts(self) -> list[tuple[ModuleGroup, ModuleGroup | None]]:
        assert isinstance(self.method, Adapters)
        return list(self.method.hosts(self.entry.shape, self.values))

    def _norm_after(self, host: ModuleGroup) -> ModuleGroup | None:
        return bottleneck.norm_after(self.entry.shape, self.values["placement"], host)

    @property
    def through_norm(self) -> bool:
        """Return whether an adapter goes through the norm after its host."""
        return self._norm_after(self._hosts[-1][0]) is not None

    @property
    def reads_elsewhere(self) -> bool:
        """Return whether an adapter reads the input of a module other than its host."""
        return self.values["placement"] in (*bottleneck.SCALED, *bottleneck.SUMMED)

    @property
    def output(self) -> str:
        """Return the expression that a hook returns. A mixture of experts may return a tuple and a flattened output."""
        mixtures = self.entry.shape.mixtures
        if self.values["placement"] in bottleneck.SUMMED:
            read = "norm(host.seen + {0})" if self.through_norm else "host.seen + {0}"
            added = f"{{0}} + host.bottleneck({read})"
        elif not self.reads_elsewhere:
            added = "{0} + host.bottleneck({0})"
        else:
            added = "{0} + " + repr(self.values["scale"]) + " * host.bottleneck(host.seen)"
            added += ".view({0}.shape)" if mixtures else ""
        if not mixtures:
            return added.format("output")
        whole = f"({added.format('output[0]')}, *output[1:])"
        return f"{whole} if isinstance(output, tuple) else {added.format('output')}"


def _pattern(group: ModuleGroup) -> str:
    """Return a regular expression for the end of a group's paths, because a classifier prefixes the model's paths."""
    return re.escape(group.path).replace(r"\{\}", r"\d+")


_IN_PLAIN_TORCH = ((FullFineTuning, "full"), (BitFit, "bitfit"), (Adapters, "adapters"))


def way_of(method: MethodSpec) -> str:
    """Return how a method that PEFT does not have is written."""
    return next((way for kind, way in _IN_PLAIN_TORCH if isinstance(method, kind)), "ours")


def applied(
    method: MethodSpec,
    entry: ModelEntry,
    values: Mapping[str, Any],
    call: PeftCall | None,
    task_type: TaskType,
) -> Applied:
    """Return what the templates need to write out a method with these settings."""
    deep = isinstance(method, PTuning) and is_deep(values)
    way = "peft" if call is not None else "deep" if deep else way_of(method)
    return Applied(way, method, entry, values, call, task_type)
