"""What prompt methods need beyond PEFT's config: a text to start from, and deep prompts on encoders in plain torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from peft_lab.export.calls import PeftCall, literal
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.ptuning.spec import PTuning, is_deep
from peft_lab.methods.shared import deep, prompt_start

DEEP_IMPORTS = ("collections.abc:Iterator", "collections.abc:Sequence", "typing:Any")
_SOURCES = (deep.attend, deep.add_prompts, deep.use, deep.layers, deep.keys_and_values)


def is_deep_encoder(method: MethodSpec, call: PeftCall | None, values: Mapping[str, Any]) -> bool:
    """Whether these settings are the deep prompts that PEFT does not have."""
    return call is None and isinstance(method, PTuning) and is_deep(values)


def text_start(call: PeftCall, values: Mapping[str, Any]) -> str:
    """The line that fills a prefix with a text, ``""`` for any other start. It reads ``model`` and ``tokenizer``."""
    if call.name != "PrefixTuningConfig" or values["init_weights"] != "text" or _projected(values):
        return ""
    tokens = values["num_virtual_tokens"]
    return (
        f"text = {_repeated(values)}\n"
        "initialize_kv_prefix_from_text(\n"
        f"    model, tokenizer, text=text, use_chat_template=False, max_length={tokens}\n"
        ")\n"
    )


def words_start(call: PeftCall, values: Mapping[str, Any]) -> str:
    """The lines that let P-Tuning's encoder start as a text, ``""`` for any other start."""
    if call.name != "PromptEncoderConfig" or values["init_weights"] != "text":
        return ""
    return f"{_ids(values)}start_as_words(model, ids)\n"


def words_define() -> str:
    return inspect.getsource(prompt_start.start_as_words)


def _ids(values: Mapping[str, Any]) -> str:
    tokens = values["num_virtual_tokens"]
    return f'text = {_repeated(values)}\nids = tokenizer(text, truncation=True, max_length={tokens})["input_ids"]\n'


def _projected(values: Mapping[str, Any]) -> bool:
    return bool(values.get("prefix_projection", False))


def _repeated(values: Mapping[str, Any]) -> str:
    return f'" ".join([{literal(values["init_text"])}] * {values["num_virtual_tokens"]})'


def deep_define() -> str:
    """The functions that put deep prompts into an encoder, word for word as they are used here."""
    names = (
        f"NAME = {literal(deep.NAME)}\nCHILD = {literal(deep.CHILD)}\nATTENTION = {literal(deep.ATTENTION)}\n"
    )
    return names + "".join(f"\n\n{inspect.getsource(function)}" for function in _SOURCES)


def deep_code(values: Mapping[str, Any]) -> str:
    """Deep prompts put into ``model``; their names are left in ``trains``."""
    tokens, start = values["num_virtual_tokens"], values["init_weights"]
    if start != "text":
        return f"trains = add_prompts(model, {tokens}, {literal(start)})\n"
    return f'{_ids(values)}trains = add_prompts(model, {tokens}, "text", ids)\n'
