"""Who states which facts: leaves by the way to them, methods by what they do, recipes by their figures.

Claims and questions state their own; a misconception is a question's wrong answer, so its facts are the question's.
"""

from __future__ import annotations

from collections.abc import Iterator

from peft_lab.advise.plan import SEEDS
from peft_lab.advise.recipes.recipe import recipe
from peft_lab.advise.recipes.rules import job
from peft_lab.advise.recommend import _SERVED
from peft_lab.advise.tree import ADVICE, PROMPT_SCALE, places
from peft_lab.core.references import (
    FIRST,
    FORGETS_LESS,
    LENGTHENS,
    MERGES,
    NEAR_FULL,
    RATE,
    RUNS,
    SERVED,
    TARGETS,
    Fact,
    fact,
)
from peft_lab.core.references import SEEDS as SEEDS_FACT
from peft_lab.interview.bank import all_questions
from peft_lab.interview.claims import all_claims
from peft_lab.interview.since import all_discoveries
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelShape

#: Models, and what they are trained for, whose recipes are compared with what texts say about rates.
JOBS = (
    ("llama-3.2-3b", "sft"), ("llama-3.1-8b", "sft"), ("llama-3.1-70b", "sft"), ("roberta-base", "classification"),
)  # fmt: skip


def stated() -> dict[str, tuple[Fact, ...]]:
    """All facts, by who states them."""
    return {
        **dict(leaves()),
        **{f"method {slug}": tuple(method(slug)) for slug in all_methods()},
        **dict(recipes()),
        **{f"claim {name}": claim.facts for name, claim in all_claims().items()},
        **{f"question {name}": question.facts for name, question in all_questions().items()},
        **{f"since {discovery.id}": discovery.facts for discovery in all_discoveries()},
        "plans": (
            fact("lora", SEEDS_FACT, SEEDS),
            fact("prompt", NEAR_FULL, PROMPT_SCALE.value),
            *(fact(slug, SERVED, "vllm", "always" if slug in _SERVED else "never") for slug in all_methods()),
        ),
    }


def leaves() -> Iterator[tuple[str, tuple[Fact, ...]]]:
    """What the tree advises, under the answers that lead there; what a leaf says of itself beside it."""
    for place in places():
        if place.leaf:
            advice = ADVICE[place.target]
            said = [fact(advice.method, FIRST, **place.conditions)]
            if advice.id in ("lora-keeping", "lora"):
                said.append(fact("lora", FORGETS_LESS, "full"))
            if advice.values.get("target_modules") == ("all-linear",):
                said.append(fact("lora", TARGETS, "every linear map"))
            yield f"leaf {place.id}", tuple(said)


def method(slug: str) -> Iterator[Fact]:
    """What the lab's own code does with a method."""
    spec = all_methods()[slug]
    decoder, encoder = get_model("llama-3.2-3b").shape, get_model("bert-base").shape
    if slug not in (
        "full",
        "qlora",
        "bitfit",
    ):  # nothing to merge; in 4 bits it loses by rounding; changes in place
        yield fact(slug, MERGES, "", "always" if spec.mergeable else "never")
    longer = spec.virtual_tokens(spec.complete(decoder, {})) > 0
    yield fact(slug, LENGTHENS, "", "always" if longer else "never")
    if slug == "bitfit":
        yield fact(slug, RUNS, "any model", "never" if _refused(slug, decoder) else "always", biases="no")
    yield fact(slug, RUNS, "encoder", "never" if _refused(slug, encoder) else "always", through="peft")
    for kind, rate in spec.learning_rates.items():
        yield fact(slug, RATE, rate, live="yes", kind=kind)


def _refused(slug: str, shape: ModelShape) -> bool:
    spec = all_methods()[slug]
    return any(problem.level == "error" for problem in spec.problems(shape, spec.complete(shape, {})))


def recipes() -> Iterator[tuple[str, tuple[Fact, ...]]]:
    """The rates of plans on models that are not trained here."""
    for slug in ("full", "lora", "qlora", "ia3", "prompt", "bitfit"):
        for name, objective in JOBS:
            shape = get_model(name).shape
            if slug == "bitfit" and not shape.biases:
                continue
            rate = recipe(job(slug, shape, objective))["learning_rate"]
            said = fact(
                slug, RATE, float(rate.value), live="no", kind=shape.kind, objective=objective, optimizer="adamw",
                model=name,
            )  # fmt: skip
            yield f"recipe {slug} {name}", (said,)
