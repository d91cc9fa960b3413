"""What a plan does not know: what was not said, what was estimated, and what only a run on the data can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from peft_lab import units
from peft_lab.choose.advice import UNTRAINED, Advice
from peft_lab.choose.plan import StepPlan
from peft_lab.choose.situation import Situation
from peft_lab.models.catalogue import catalogue
from peft_lab.units import Source

_FIGURE = re.compile(r"\d[\d.,]* (?:[kMGT]?B|days|hours|h|min)\b")


@dataclass(frozen=True)
class Unknown:
    """One thing that is not known. ``kind``: the source of the figure in it, empty where there is none."""

    text: str
    kind: str = ""

    def __str__(self) -> str:
        return self.text


def unknown(situation: Situation, advice: Advice, plan: StepPlan | None) -> tuple[Unknown, ...]:
    """What is not known, the gravest first."""
    if plan is None:
        return tuple(Unknown(text) for text in _untrained(advice))
    counted, cited = str(Source.COUNTED), str(Source.CITED)
    return (
        *(
            Unknown(text, counted if _FIGURE.search(text) else "")
            for text in _memory(situation, advice, plan)
        ),
        *(Unknown(text, cited if _FIGURE.search(text) else "") for text in _time(situation, plan)),
        *(Unknown(text) for text in _quality(situation, advice, plan)),
    )


def _untrained(advice: Advice) -> Iterator[str]:
    if advice.method not in UNTRAINED[:2]:
        return
    yield "What it costs for each request: that depends on the length of the prompt and on your price for tokens."
    yield "Whether it still reaches the target on requests that nobody tried: score held-out rows."


def _memory(situation: Situation, advice: Advice, plan: StepPlan) -> Iterator[str]:
    if plan.split:
        yield (
            f"What the link between {plan.devices:,} devices takes for itself: NCCL's buffers are in no simulation, so "
            "twice the usual head room is kept. Try a few steps first."
        )
    if plan.host_bytes:
        yield (
            f"Whether main memory has {units.size(plan.host_bytes * plan.devices)} to spare: what is split waits "
            "there, and is fetched layer by layer at every step."
        )
    if situation.devices > 1 and not situation.link:
        yield "What links the devices was not said; PCIe, the slower, was taken."
    if plan.remembered == "float32" and advice.method == "full":
        yield (
            "Mixed precision itself is not simulated: the step is, with all in float32, and two bytes for each weight "
            "are added for the 16-bit copies. That is more than it takes."
        )
    if situation.purpose == "rl":
        yield (
            f"What writing and judging the answers takes: time and memory are of the training steps alone, on "
            f"{plan.group:,} answers to each prompt. Generation, with its cache, is in neither and comes on top."
        )
    if situation.purpose == "preference":
        yield "The comparison's second pass, without gradients, is not simulated; both sequences of a row are."


def _time(situation: Situation, plan: StepPlan) -> Iterator[str]:
    if plan.seconds is None and situation.shape.mixtures:
        yield "How long it takes: the products of experts are not counted here. Plan traces the step and says it."
        return
    if plan.seconds is None:
        yield f"How long it takes: no speed of {situation.hardware.title} is known here. Time a few steps."
        return
    tasks = situation.tasks  # one after the other, on the devices there are
    low, high = (end * tasks for end in plan.seconds)
    span = units.span(low, high)
    yield "How long it takes within that range: no step of it was timed."
    limit = situation.deadline_hours
    if limit is not None and high > 3600 * limit:
        sure = "It does not end" if low > 3600 * limit else "Whether it ends"
        time = f"{limit:g} hour" + ("" if limit == 1 else "s")
        what = f"the range of all {tasks:,} tasks is" if tasks > 1 else "the range is"
        yield f"{sure} within {time}: {what} {span}. Fewer rows or epochs, or more devices, shorten it."


def _quality(situation: Situation, advice: Advice, plan: StepPlan) -> Iterator[str]:
    entry = catalogue().get(situation.model)
    if entry is None or not entry.live:
        yield (
            f"How good it gets: nothing was trained on {situation.shape.title} here. Rates are those of the sources; "
            "try a third of it and three times it on part of the data."
        )
    rate = plan.settings["learning_rate"]
    if rate.why:
        yield f"The learning rate: {rate.why}"
    if situation.forgetting == "matters":
        yield "How much it forgets on your data: score a general benchmark before and after."
    if situation.purpose == "embedding" and plan.accumulate > 1:
        yield (
            "Whether the batch is large enough: rows of accumulated steps are no negatives for each other. A loss that "
            "caches gradients makes them so, and is not simulated."
        )
    if situation.tasks > 1 and advice.method in ("lora", "qlora"):
        yield "What the adapter adds to a request on your server: that depends on rank, batch and kernels. Measure it."
    if advice.method == "qlora":
        yield (
            "On which base it is served: on the 16-bit weights the adapter meets other values than the 4-bit ones that "
            "it was trained beside. Score it as it will be served."
        )
