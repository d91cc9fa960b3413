"""Claims about PEFT, each with what it says and code that finds out what is so.

``interview/content/claims/<topic>.yaml`` has the words, one entry a claim. ``counting``, ``simulating`` and
``comparing`` have the checks, by which a verdict is found and never typed. ``base`` says what a claim is.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from peft_lab.core.content import by_name, read_table
from peft_lab.core.errors import UnknownName
from peft_lab.interview import question
from peft_lab.interview.claims.base import Check, Claim, Fits, Found, Template, read_template
from peft_lab.interview.question import takes, topics
from peft_lab.models.shapes import ModelShape

CONTENT = Path(__file__).parents[1] / "content" / "claims"
_CHECKS = ("counting", "simulating", "comparing")


def _quantised(shape: ModelShape) -> bool:
    return question.separate_attention(shape) and takes("qlora", shape)


def _generating(shape: ModelShape) -> bool:
    return question.separate_attention(shape) and question.causal(shape)


def _prompt_and_lora(shape: ModelShape) -> bool:
    return takes("prompt", shape) and takes("lora", shape)


def _functions(module: str) -> dict[str, Callable[..., Any]]:
    """Return the functions that a module of this package defines, by name."""
    loaded = importlib.import_module(f"{__name__}.{module}")
    return {
        name: value for name, value in vars(loaded).items()
        if inspect.isfunction(value) and value.__module__ == loaded.__name__
    }  # fmt: skip


@cache
def all_claims() -> dict[str, Claim]:
    """Every claim by id, the source text's first."""
    checks = {name: check for module in _CHECKS for name, check in _functions(module).items()}
    models: dict[str, Fits] = {
        "one stack": question.one_stack,
        "separate attention": question.separate_attention,
        "with biases": question.with_biases,
        "takes a prefix": question.prefixed,
        "takes a prompt": question.prompted,
        "takes LoRA": partial(takes, "lora"),
        "takes QLoRA": _quantised,
        "takes a prompt and LoRA": _prompt_and_lora,
        "causal with separate attention": _generating,
        "the first": checks["is_meant"],
    }
    converters = {
        Check: by_name(checks, "check"),
        Fits: by_name(models, "kind of model"),
        Template: read_template,
    }
    paths = [CONTENT / f"{topic}.yaml" for topic in topics()]
    table = read_table((path for path in paths if path.exists()), Claim, "id", converters)
    return dict(sorted(table.items(), key=lambda item: (item[1].origin != "text", item[1].topic_order)))


def get_claim(name: str) -> Claim:
    """A claim by id. Raises :class:`UnknownName` with the nearest one."""
    try:
        return all_claims()[name]
    except KeyError:
        raise UnknownName("claim", name, all_claims(), "claim") from None


# ----------------------------------------
# The verdict on a claim about all models of the catalogue, not about one.


@cache
def on_all(claim_id: str) -> dict[str, Found]:
    """What is found on each model of the catalogue that a general claim can be checked on."""
    claim = get_claim(claim_id)
    return {name: claim.on(name) for name in claim.models()} if claim.general else {}


def overall(claim: Claim, here: Found) -> Found:
    """The verdict on the claim as it stands: right where it holds on every model, wrong where on none.

    A claim that is not general has the verdict of the model it was checked on.
    """
    verdicts = {found.verdict for found in on_all(claim.id).values()}
    if not verdicts:
        return here
    return replace(here, verdict=verdicts.pop() if len(verdicts) == 1 else "imprecise")
