"""Write the settings of a page as code before anything has run: what Train would do to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.methods.base import MethodSpec, TaskType
from peft_lab.methods.full.spec import FullFineTuning
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import ModelEntry
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.takeaway.calls import (
    TASK_TYPES,
    PeftCall,
    after_loading,
    literal,
    peft_call,
    quantisation_source,
)
from peft_lab.takeaway.layout import import_lines
from peft_lab.takeaway.loop_code import LORA_PLUS
from peft_lab.takeaway.method_code import applied, past_config

_CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "encoder": "AutoModelForSequenceClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "vision": "AutoModelForImageClassification",
}

_BEYOND = """
# What the config cannot say.
"""

_PLAIN = """
# Not in PEFT: what PEFT Lab does, in plain torch.
"""

_PLUS = """
# PEFT raises the rate of one-dimensional parameters too, biases for example; PEFT Lab raises that of B alone.
optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=<RATE>, loraplus_lr_ratio=<RATIO>)
"""


def config_code(method: MethodSpec, entry: ModelEntry, values: Mapping[str, Any]) -> str:
    """Return Python text that loads the model and applies the method; it can be run as it is.

    It uses the definitions of exported files: methods that PEFT does not have are plain torch, and what PEFT's
    configs cannot express follows them. Seeds, precision and training are left to a run's script.

    Raises:
        BadInput: settings that cannot work, with the reason; ``field`` names the knob.
        RunError: the process that makes PEFT's config died.
    """
    full = method.require(entry.shape, values)
    task_type = TASK_TYPES[entry.kind]
    call = peft_call(entry, method, full, task_type)
    imports, body = _method(_Page(method, entry, full, call, task_type))
    how = method.quantization(full)
    options = ", num_labels=2" if entry.kind in CLASSIFIERS else ""
    prepare = settle = ""
    if how is not None:
        settle, needed = after_loading(how)
        imports += ["transformers:BitsAndBytesConfig", *needed, *(["torch"] if how.bits == 4 else [])]
        prepare = f"stored = {quantisation_source(how)}\n"
        options += ", quantization_config=stored"
    loader = _CLASSES[entry.kind]
    imports.append(f"transformers:{loader}")
    # On lines of their own: beside the call they would be wider than the page's box.
    load = f"model = {loader}.from_pretrained(\n    {literal(hub_id(entry))}{options}\n)\n"
    return f"{import_lines(imports)}\n\n{prepare}{load}{settle}{body}"


def hub_id(entry: ModelEntry) -> str:
    """Return the Hugging Face id of a model, or the learner's own name for it."""
    asset = ASSETS.get(entry.name)
    return asset.hub_id if asset and asset.hub_id else entry.source


@dataclass(frozen=True)
class _Page:
    """The settings of a page, as :class:`~peft_lab.takeaway.method_code.Settings` names them."""

    method: MethodSpec
    entry: ModelEntry
    values: Mapping[str, Any]
    call: PeftCall | None
    task_type: TaskType

    @property
    def tokenizer(self) -> str:
        return f"tokenizer = AutoTokenizer.from_pretrained({literal(hub_id(self.entry))})\n"


def _method(page: _Page) -> tuple[list[str], str]:
    """Return the imports and lines of one method, long definitions just before they are needed."""
    if page.call is not None:
        return _peft(page, page.call)
    if isinstance(page.method, FullFineTuning):
        return [], "# Nothing is added and nothing is frozen: every parameter is trained.\n"
    how = applied(page)
    imports, before = list(how.imports), ""
    if "DEVICE" in how.reads:
        before = "DEVICE = model.device\n"
    if "tokenizer" in how.reads:
        before = page.tokenizer
        imports.append("transformers:AutoTokenizer")
    if how.define:
        before += f"{_PLAIN}\n\n{how.define.strip()}\n\n"
    return imports, f"{before}\n{how.code}"


def _peft(page: _Page, call: PeftCall) -> tuple[list[str], str]:
    body = f"\nconfig = {call.source(literal(hub_id(page.entry)))}\nmodel = get_peft_model(model, config)\n"
    imports = [f"peft:{call.name}", "peft:get_peft_model"]
    if call.virtual_tokens:
        more = past_config(page, call)
        imports += more.imports
        if more.reads_tokenizer:
            body += page.tokenizer
            imports.append("transformers:AutoTokenizer")
        body += f"{_BEYOND}\n\n{more.define.strip()}\n\n\nwithout_dropout(model)\n{more.code}"
    ratio = page.values.get(LORA_PLUS, 1.0)
    if ratio != 1.0:
        rate = page.method.learning_rate(page.entry.kind, page.values)
        body += _PLUS.replace("<RATE>", repr(rate)).replace("<RATIO>", repr(ratio))
        imports += ["torch", "peft.optimizers:create_loraplus_optimizer"]
    return imports, body
