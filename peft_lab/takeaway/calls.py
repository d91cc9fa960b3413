"""Write a PEFT config as the Python text that makes it.

The text is derived from the config object that the method itself makes, compared field by field with PEFT's
defaults, so it shows what was done, for every method. Making the object imports peft, in the inspector process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec, TaskType
from peft_lab.methods.shared.peft_backed import config_of
from peft_lab.models.catalogue import ModelEntry, resolve
from peft_lab.models.loading import KEPT_WHOLE
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelKind
from peft_lab.takeaway.generator import literal
from peft_lab.workers import inspector

TOKENIZER = "tokenizer_name_or_path"
TASK_TYPES: Mapping[ModelKind, TaskType] = {
    "causal-lm": "CAUSAL_LM",
    "encoder": "SEQ_CLS",
    "seq2seq": "SEQ_2_SEQ_LM",
    "vision": "IMAGE_CLS",
}
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
    """Return the config of complete values; ``None`` for a method that PEFT does not have.

    Raises:
        BadInput: a knob that is not at its default is neither in the config nor in the quantisation of the base, so
            the plain libraries would do something else.
    """
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
                f"'{knob.label}' is not part of PEFT's {call.name}, so the plain libraries alone cannot repeat it.",
                knob.name,
            )
    return call


def _read(
    model: str, slug: str, values: Mapping[str, Any], task_type: TaskType
) -> tuple[PeftCall | None, frozenset[str]]:
    """Return the call and all field names of its class. Runs in the inspector process."""
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
