"""Questions on IA³."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import MERGES, fact
from peft_lab.methods.ia3 import calculations as calc
from peft_lab.methods.ia3.follow_ups import FOLLOW_UPS
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.fits import separate_attention
from peft_lab.quiz.question import Question, followed

MODEL = "llama-3.2-3b"
ask = partial(Question, topic="ia3", model=MODEL, fits=separate_attention)


def fused_attention(shape: ModelShape) -> bool:
    """Whether queries, keys and values are one map."""
    return "qkv" in shape.block


_ASKED = (
    ask(
        id="ia3-vectors", level="basic", kind="numeric", calculate=calc.vectors,
        question="IA³ on {{model}}: one vector for the keys, one for the values and one for the inner feed-forward "
        "activations of each of {{layers}} layers (keys and values {{kv_width}} wide, feed-forward "
        "{{intermediate}}). How many parameters?",
        answer="{{value}}, {{share}} of all.",
        listen_for=(
            "one number per feature",
            "the feed-forward vector has the inner width",
            "keys and values are narrow under grouped-query attention",
        ),
        wrong=("uses the hidden size for all three",),
        sources=(f"{src.IA3}, section 3.3",),
    ),
    ask(
        id="ia3-start", level="basic", kind="choice", model=None, correct=1,
        options=(
            "At zero, so that nothing is added",
            "At one, so that nothing is changed",
            "At random near zero, to break symmetry",
            "At the mean activation of each feature",
        ),
        question="How do IA³'s vectors start?",
        answer="At one: they multiply, so one leaves keys, values and activations as they are. Zero would erase "
        "them. No symmetry has to be broken, because each entry sees a different feature.",
        listen_for=("multiplicative identity", "same principle as B = 0: start from the pretrained function"),
        wrong=("zero, by analogy with LoRA",),
        because=(
            "That it adds, as LoRA does. It multiplies, and zero would erase keys, values and activations.",
            "",
            "That there is a symmetry to break. Each entry sees a feature of its own, so equal starts do not stay "
            "equal.",
            "That the vector should stand for what it scales. A start has to leave the model unchanged, and "
            "multiplying by a mean does not.",
        ),
        sources=(f"{src.IA3}, section 3.3",),
    ),
    ask(
        id="ia3-merge-why", level="basic", kind="free", model=None,
        facts=(fact("ia3", MERGES),),
        question="Show that IA³ can be merged. When would you rather not?",
        answer="$l \\odot (Wx) = (\\mathrm{diag}(l)\\,W)\\,x$: a vector on the output scales the rows of W; on the "
        "input of the next map it scales columns. So afterwards the model is as fast as before. Keep it apart to "
        "serve many tasks from one base in one batch, which a few thousand numbers per layer make cheap, or when "
        "the base is quantised.",
        listen_for=(
            "A vector on the output scales the rows of W: l ⊙ (Wx) = (diag(l) W) x.",
            "On the input of the next map it scales columns.", "So the merged model is as fast as before.",
            "Keep it apart to serve many tasks from one base, or when the base is quantised.",
        ),
        wrong=(
            "that the nonlinearity in the feed-forward part prevents it: the vector acts after it, before the linear "
            "map", "'the vector is added like a bias'", "'it cannot be merged'",
        ),
        sources=(f"{src.IA3}, section 3.3", src.ALGEBRA),
    ),
    ask(
        id="ia3-share", level="medium", kind="numeric", calculate=calc.share_of_model, model="bert-base",
        given={"claimed": 0.01},
        question="'IA³ trains under {{claimed}}% of a model.' What is its share on {{model}} ({{total}} parameters, "
        "{{layers}} layers, hidden {{hidden}}, feed-forward {{intermediate}}), with vectors on keys, values and "
        "feed-forward activations?",
        answer="{{value}}, that is {{trained}} numbers. With PEFT's default targets it is {{default}}. The sentence "
        "{{holds}} here. Such shares belong to one model: vectors grow with the width, matrices with its square.",
        listen_for=("computes instead of quoting", "the share falls with width"),
        wrong=("a percentage from memory, for every model",),
        sources=(f"{src.IA3}, section 3.3", src.RUN),
    ),
    ask(
        id="ia3-against-lora", level="medium", kind="numeric", calculate=calc.against_lora, given={"r": 8},
        question="LoRA of rank {{r}} on the query and value maps of {{model}} trains how many times as many "
        "parameters as IA³ on keys, values and feed-forward activations?",
        answer="{{value}}. It says nothing on memory: both keep nearly the same activations, and IA³'s products "
        "keep a few more.",
        listen_for=("works out both per layer", "does not conclude anything on peak memory"),
        wrong=("takes values to be as wide as queries where they are narrower",),
        sources=(f"{src.IA3}, section 3.3", f"{src.LORA}, section 4.2"),
    ),
    ask(
        id="ia3-merge-key", level="medium", kind="numeric", calculate=calc.changed_by_key,
        question="After training, exactly one entry of the key vector in one layer of {{model}} differs from 1. "
        "How many weights of that layer's key map ({{k_out}} × {{k_in}}) change when it is merged?",
        answer="{{value}}: one row, since the vector multiplies the output.",
        listen_for=("row for outputs", "all of one row by the same factor"),
        wrong=("a column", "one weight"),
        sources=(src.ALGEBRA, f"{src.IA3}, section 3.3"),
    ),
    ask(
        id="ia3-optimizer", level="medium", kind="numeric", calculate=calc.optimizer_bytes,
        question="How many bytes do Adam's moments take for IA³ on {{model}} (keys, values, feed-forward), in "
        "float32?",
        answer="{{value}}, beside {{weights}} GB of bfloat16 weights. From here on fewer parameters save nothing "
        "that can be seen.",
        listen_for=("two moments per trained parameter", "what is left is weights and activations"),
        wrong=("moments for the frozen base",),
        sources=(f"{src.ADAM}, algorithm 1", f"{src.IA3}, section 3.3"),
    ),
    ask(
        id="ia3-expressiveness", level="medium", kind="free", model=None,
        question="What can LoRA do that IA³ cannot, and does it matter?",
        answer="IA³ rescales features that exist; it cannot mix them or write a new direction, and its change of W "
        "has the form of a diagonal times W. LoRA adds any change of rank r. For few examples the restriction "
        "works as a strong prior, which is the setting of its paper; with more data or a task far from pretraining "
        "it runs out of capacity.",
        listen_for=(
            "IA³ only rescales features that exist; it cannot mix them or write a new direction.",
            "LoRA adds any change of rank r, so it can mix features.",
            "With few examples the restriction helps, as a prior; with much data or a far task it runs out of "
            "capacity.", "The change of W under IA³ can have a high rank all the same.",
        ),
        wrong=(
            "that IA³ is LoRA of rank 1: its change usually has high rank, but few degrees of freedom",
            "'IA³ can mix features'",
        ),
        sources=(f"{src.IA3}, section 3.3", src.ALGEBRA),
    ),
    ask(
        id="ia3-merge-ff", level="hard", kind="numeric", calculate=calc.changed_by_ff,
        question="Exactly one entry of the feed-forward vector in one layer of {{model}} differs from 1. How many "
        "weights of that layer's down map ({{down_out}} × {{down_in}}) change when it is merged?",
        answer="{{value}}: one column, since this vector multiplies the map's input.",
        listen_for=("column for inputs", "why PEFT asks for `feedforward_modules` separately"),
        wrong=("a row, as for keys",),
        sources=(src.ALGEBRA, src.PEFT),
    ),
    ask(
        id="ia3-fused", level="hard", kind="numeric", calculate=calc.fused, model="gpt2", fits=fused_attention,
        question="{{model}} computes query, key and value in one map with {{qkv_out}} outputs. How many parameters "
        "does IA³ train with that map and the feed-forward down map ({{down_in}} inputs) as targets, over "
        "{{layers}} layers?",
        answer="{{value}}. {{queries}} of them scale the queries, which the paper leaves alone: defaults of a "
        "library are not always the method of the paper.",
        listen_for=("the vector covers the fused output", "names the deviation"),
        wrong=("counts keys and values only",),
        sources=(src.PEFT, f"{src.IA3}, section 3.3"),
    ),
    ask(
        id="ia3-peak", level="hard", kind="free", model=None,
        question="IA³ trains far fewer parameters than LoRA on q and v, yet in the published comparison its peak "
        "memory was higher. How can that be?",
        answer="Parameters, gradients and moments of both are negligible beside weights and activations. IA³ "
        "multiplies activations by a trained vector, and the gradient of that vector needs those activations: "
        "whole feed-forward activations are kept that LoRA on q and v does not need for itself. The difference in "
        "activations is larger than all that IA³ saves in parameters.",
        listen_for=(
            "Parameters, gradients and moments of both are negligible beside weights and activations.",
            "IA³ multiplies activations by a vector, and that vector's gradient needs those activations to be kept.",
            "In the feed-forward part these are wide.", "The number of trained parameters is no measure of memory.",
        ),
        wrong=(
            "'a measuring error'", "'optimizer states'",
            "'the backward pass of an elementwise product needs nothing stored'",
        ),
        sources=(src.BENCH, src.RUN),
    ),
    ask(
        id="ia3-recipe", level="hard", kind="free", model=None,
        question="The paper's recipe reached strong few-shot results. Which parts of it are not IA³, and why does "
        "that matter when you copy the method?",
        answer="T-Few starts from T0, a model trained on many prompted tasks, adds losses for unlikely choices and "
        "for length, and pretrains the vectors before the few-shot stage. IA³ is one part. Whoever takes only the "
        "vectors and a plain language model should not expect the same scores.",
        listen_for=("base model, extra losses, pretraining of the vectors", "ablation: what contributed how much"),
        wrong=("credits everything to three vectors",),
        sources=(f"{src.IA3}, section 3",),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)
