"""The settings of a page as code, before anything has run: what a press on Train would do to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.assets import ASSETS
from peft_lab.export.calls import TASK_TYPES, literal, peft_call, quantisation_source
from peft_lab.export.layout import import_lines
from peft_lab.export.loop_code import LORA_PLUS
from peft_lab.export.method_code import bitfit_code, ours_code
from peft_lab.export.prompt_code import text_start
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.bitfit import BitFit
from peft_lab.methods.full import FullFineTuning
from peft_lab.models import ModelEntry

_CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "encoder": "AutoModelForSequenceClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
}

_PLUS = """
# PEFT raises the rate of one-dimensional parameters too, biases for example; PEFT Lab raises that of B alone.
optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=<RATE>, loraplus_lr_ratio=<RATIO>)
"""


def config_code(method: MethodSpec, entry: ModelEntry, values: Mapping[str, Any]) -> str:
    """The short Python text that loads the model and applies the method; every line of it runs.

    Methods that PEFT does not have are plain torch where that is short, else they come from this package.

    Raises:
        BadInput: settings that cannot work, with the reason; ``field`` names the knob.
        RunError: the process that makes PEFT's config died.
    """
    full = method.require(entry.shape, values)
    task_type = TASK_TYPES[entry.kind]
    imports, body = _method(method, entry, full, task_type)
    how = method.quantization(full)
    options = ", num_labels=2" if entry.kind == "encoder" else ""
    prepare = ""
    if how is not None:
        imports += ["torch", "transformers:BitsAndBytesConfig"]
        prepare = f"stored = {quantisation_source(how)}\n"
        options += ", quantization_config=stored"
    loader = _CLASSES[entry.kind]
    imports.append(f"transformers:{loader}")
    load = f"model = {loader}.from_pretrained({literal(hub_id(entry))}{options})\n"
    return f"{import_lines(imports)}\n\n{prepare}{load}{body}"


def hub_id(entry: ModelEntry) -> str:
    """The Hugging Face id of a model, or the learner's own name for it."""
    asset = ASSETS.get(entry.name)
    return asset.hub_id if asset and asset.hub_id else entry.source


def _method(
    method: MethodSpec, entry: ModelEntry, values: Mapping[str, Any], task_type: Any
) -> tuple[list[str], str]:
    """The imports and lines of one method."""
    call = peft_call(entry, method, values, task_type)
    if call is not None:
        body = f"\nconfig = {call.source(literal(hub_id(entry)))}\nmodel = get_peft_model(model, config)\n"
        imports = [f"peft:{call.name}", "peft:get_peft_model"]
        start = text_start(call, values)
        if start:
            body += f"\ntokenizer = AutoTokenizer.from_pretrained({literal(hub_id(entry))})\n{start}"
            imports += ["peft:initialize_kv_prefix_from_text", "transformers:AutoTokenizer"]
        ratio = values.get(LORA_PLUS, 1.0)
        if ratio != 1.0:
            body += _PLUS.replace("<RATE>", repr(method.learning_rate(entry.kind, values))).replace(
                "<RATIO>", repr(ratio)
            )
            imports += ["torch", "peft.optimizers:create_loraplus_optimizer"]
        return imports, body
    if isinstance(method, FullFineTuning):
        return [], "# Nothing is added and nothing is frozen: every parameter is trained.\n"
    if isinstance(method, BitFit):
        return [], f"\n{bitfit_code(entry.shape, values, task_type == 'SEQ_CLS')}"
    names = ["peft_lab.methods:get_method", "peft_lab.models:resolve"]
    return names, f"\n# Not in PEFT: PEFT Lab's own.\n{ours_code(method, entry.name, values, task_type)}"
