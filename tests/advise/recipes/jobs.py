"""Jobs for the tests: any method on a model of any size."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

from peft_lab.advise.recipes.rules import OBJECTIVES, OF_ENCODERS, Job, job
from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelKind, ModelShape

MODELS: dict[ModelKind, str] = {"causal-lm": "llama-3.2-3b", "encoder": "roberta-large", "seq2seq": "t5-base"}
CLASSES = ("gpt2", "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b", "qwen2.5-7b", "llama-3.1-70b", "bert-base",
           "roberta-large", "t5-base", "smollm2-135m", "minilm-l6")  # fmt: skip
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "lora": ({}, {"r": 256}, {"r": 64, "use_rslora": True}, {"use_dora": True}, {"loraplus_lr_ratio": 16.0}),
    "prefix": ({}, {"prefix_projection": True}),
    "ptuning": ({}, {"version": "v2"}),
}


def of_size(kind: ModelKind, parameters: float, model_type: str | None = None) -> ModelShape:
    """A shape of a kind that says it has so many parameters."""
    shape = get_model(MODELS[kind]).shape
    shape = replace(shape, name="somewhere/else", model_type=model_type or shape.model_type)
    shape.__dict__["total"] = int(parameters)
    return shape


def asked(method: str, kind: ModelKind, parameters: float, objective: str, **more: Any) -> Job:
    return job(method, of_size(kind, parameters, more.pop("model_type", None)), objective, **more)


@cache
def every() -> tuple[Job, ...]:
    """Every method with its variants, on every size class, for every objective."""
    found = []
    for name, method, objective in product(CLASSES, all_methods(), OBJECTIVES):
        shape = get_model(name).shape
        if shape.kind == "encoder" and objective not in OF_ENCODERS:
            continue
        for values in VARIANTS.get(method, ({},)):
            try:
                found += [job(method, shape, objective, rows, values=values) for rows in (1_000, 10_000)]
            except BadInput:
                continue
    return tuple(found)
