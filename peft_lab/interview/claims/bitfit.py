"""What the source text says about BitFit alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from functools import partial

from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.interview.claims.base import Claim, Found, Subject, about, both, counted, holds
from peft_lab.interview.claims.figures import share
from peft_lab.interview.question import one_stack, with_biases
from peft_lab.methods import get_method

read = partial(Claim, source=Source.COUNTED)
CLASSES = 2


def _bitfit_share(model: Subject) -> Found:
    if not model.shape.biases:
        return Found(
            "wrong",
            f"{len(model.shape.biases)} biases in {model.shape.title}",
            "Llama-type models are built without biases: there is nothing to train.",
            {"share": 0.0},
        )
    value = model.share("bitfit")
    return Found(
        about(value, 0.08),
        f"{units.count(model.trained('bitfit'))} biases, {share(value)}",
        "One bias per output against one weight per input and output.",
        {"share": value},
    )


def _bitfit_free(model: Subject) -> Found:
    shape = model.shape
    formula = get_method("bitfit").formula(shape, get_method("bitfit").complete(shape, {}))
    return Found(
        holds(formula.added == 0),
        f"{units.count(formula.trainable)} biases trained, {formula.added} parameters added",
        "The biases are part of the computation whether they were trained or not. A model without biases has none to "
        "train, so this says nothing about it.",
        {"added": formula.added},
    )


def _bitfit_snippet(model: Subject) -> Found:
    frozen = CLASSES * model.shape.hidden
    return Found(
        both(bool(model.shape.biases), frozen == 0),
        f"{units.count(frozen)} weights of a new head for {CLASSES} classes stay at their random start",
        "This rule also freezes the new head that was put on for the task. The paper trains the head too.",
        {"frozen": frozen},
    )


CLAIMS = (
    counted(
        id="bitfit-share", topic="bitfit", check=_bitfit_share, model="bert-base", fits=one_stack,
        claim="The biases are about 0.08% of the parameters.",
        quote="Bias params are ~0.1% of total model parameters … ~0.08%",
    ),
    read(
        id="bitfit-free", topic="bitfit", check=_bitfit_free, model="bert-base", fits=with_biases,
        how="parameters that the method adds, by its formula",
        claim="BitFit costs nothing at inference.", quote="BitFit | ~0.08% | None",
    ),
    read(
        id="bitfit-snippet", topic="bitfit", check=_bitfit_snippet, model="bert-base", fits=with_biases,
        how="the head that transformers puts on, by the model's width",
        claim="Freezing every parameter without 'bias' in its name is all there is to it.",
        quote='if "bias" not in name: param.requires_grad = False',
    ),
)  # fmt: skip
