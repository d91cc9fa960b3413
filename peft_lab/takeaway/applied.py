"""Decide how a method is written: with PEFT's config, in plain torch, or with this package.

Full fine-tuning, BitFit, bottleneck adapters and deep prompts on encoders are written out in plain torch. Any other
method of ours is imported from this package; the file says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from peft_lab.methods.adapters import spec as adapters
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.base import CLASSIFYING, MethodSpec, TaskType
from peft_lab.methods.bitfit import spec as bitfit
from peft_lab.methods.bitfit.spec import SUBSET_ROLES, BitFit
from peft_lab.methods.full import spec as full
from peft_lab.methods.full.spec import FullFineTuning
from peft_lab.methods.ptuning import spec as ptuning
from peft_lab.methods.ptuning.spec import PTuning, is_deep
from peft_lab.methods.shared import bottleneck
from peft_lab.models.catalogue import ModelEntry
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModuleGroup
from peft_lab.takeaway.calls import PeftCall, quantisation_source
from peft_lab.takeaway.generator import literal


class Settings(Protocol):
    """What determines how a method is written, for a run (:class:`~peft_lab.takeaway.facts.Facts`) or a page."""

    @property
    def method(self) -> MethodSpec: ...

    @property
    def entry(self) -> ModelEntry: ...

    @property
    def values(self) -> Mapping[str, Any]: ...

    @property
    def call(self) -> PeftCall | None: ...

    @property
    def task_type(self) -> TaskType: ...


@dataclass(frozen=True)
class Place:
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
        """Return the expression of a text of at least as many tokens as there are virtual ones."""
        return f'" ".join([{literal(self.values["init_text"])}] * {self.values["num_virtual_tokens"]})'

    # -- bottleneck adapters -------------------------------------------------------------------------------------

    @property
    def function(self) -> str:
        nonlinearity = self.values["nonlinearity"]
        return "torch.tanh" if nonlinearity == "tanh" else f"torch.nn.functional.{nonlinearity}"

    @property
    def places(self) -> list[Place]:
        return [
            Place(
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
    """Return a regular expression for the end of a group's paths: a classifier prefixes the bare model's paths."""
    return re.escape(group.path).replace(r"\{\}", r"\d+")


_IN_PLAIN_TORCH = ((FullFineTuning, "full"), (BitFit, "bitfit"), (Adapters, "adapters"))


def way_of(method: MethodSpec) -> str:
    """Return how a method that PEFT does not have is written."""
    return next((way for kind, way in _IN_PLAIN_TORCH if isinstance(method, kind)), "ours")


def applied(how: Settings) -> Applied:
    """Return how a method with these settings is written."""
    if how.call is not None:
        way = "peft"
    elif isinstance(how.method, PTuning) and is_deep(how.values):
        way = "deep"
    else:
        way = way_of(how.method)
    return Applied(way, how.method, how.entry, how.values, how.call, how.task_type)
