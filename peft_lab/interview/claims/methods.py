"""What the source text says about several methods at once, or about choosing one."""

from __future__ import annotations

from functools import partial

from peft_lab.advise.recommend import decide
from peft_lab.advise.room import room_of
from peft_lab.advise.situation import Situation
from peft_lab.core import units
from peft_lab.core.facts import LENGTHENS, RUNS, fact
from peft_lab.core.units import Source
from peft_lab.engine.devices import devices
from peft_lab.interview.claims.base import Claim, Found, Subject, both, holds
from peft_lab.interview.claims.figures import TOKENS
from peft_lab.interview.question import one_stack, prefixed, takes
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model

read = partial(Claim, source=Source.COUNTED)
BYTES = 2  # of a cached number


def _bitfit_simplest(model: Subject) -> Found:
    shape = model.shape
    there = takes("bitfit", shape)
    biases = model.trained("bitfit") if there else len(shape.biases)
    return Found(
        holds(there),
        f"{units.count(biases)} biases to train in {shape.title}",
        "The advice asks for the task only. The model decides first: Llama-type models have no biases.",
        {"biases": biases},
    )


def _prompt_tokens(model: Subject) -> Found:
    shape = model.shape
    each = 2 * shape.num_layers * shape.kv_width * BYTES
    prefix, prompt = get_method("prefix"), get_method("prompt")
    values = {"num_virtual_tokens": TOKENS}
    taken = [spec.virtual_tokens(spec.complete(shape, values)) for spec in (prefix, prompt)]
    return Found(
        both(taken[0] > 0, taken[1] > 0),
        f"{TOKENS} virtual tokens take {units.size(TOKENS * each)} of every request's cache ({units.size(each)} "
        f"each)",
        "Both take room in every layer's cache: a prefix is written into it, a prompt enters it when the model "
        "reads it.",
        {"cache": TOKENS * each},
    )


def _large_limited(model: Subject) -> Found:
    methods, advised, needs = [], [], {}
    for name, device in (("llama-3.1-8b", "rtx-3060"), ("llama-3.1-70b", "h200")):
        there = Situation(model=name, device=device)
        decided = decide(there, room_of(there))
        methods.append(decided.advice.method)
        assert decided.step is not None
        needs[name] = float(decided.step.needed)
        step = f"a step needs {units.size(decided.step.needed)} of {units.size(there.hardware.memory)}"
        title, card = get_model(name).title, devices()[device].title.partition(",")[0]
        advised.append(f"{title} on one {card}: {decided.advice.title} ({step})")
    return Found(
        "right" if methods == ["lora", "qlora"] else "imprecise",
        "; ".join(advised),
        "Size alone does not decide. What counts is whether the memory of a step fits the device.",
        needs,
    )


CLAIMS = (
    read(
        id="bitfit-classification", topic="choosing", check=_bitfit_simplest, fits=one_stack,
        facts=(fact("bitfit", RUNS, "any model", "never", biases="no"),),
        how="biases in the model's shape",
        claim="For simple classification with little data, take BitFit.",
        quote="Simple classification, small dataset? → BitFit",
    ),
    read(
        id="prompt-tokens-cost", topic="serving", check=_prompt_tokens, fits=prefixed,
        facts=(
            fact("prompt", LENGTHENS),
            fact("prefix", LENGTHENS),
        ),
        how="bytes of keys and values by the model's shape",
        claim="Prefix and prompt methods cost extra tokens.", quote="Extra tokens per layer … Prepend tokens",
    ),
    Claim(
        id="qlora-by-size", topic="choosing", check=_large_limited, source=Source.SIMULATED, model=None, needs="torch",
        how="the decision tree, asked with simulated steps",
        claim="Above 30B on a limited GPU, take QLoRA.", quote="Large model (>30B) on limited GPU? → QLoRA",
    ),
)  # fmt: skip
