"""What is asked after the questions on IA³."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import MERGES, fact
from peft_lab.engine.published.rows import reserved, right
from peft_lab.interview.calculations import ia3 as calc
from peft_lab.interview.computed import Answer, Case, both, plain, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    give_way,
    hold,
    lab,
    separate_attention,
    then,
)
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModelShape

LLAMA, SMOL, MINILM = "llama-3.2-3b", "smollm2-135m", "minilm-l6"


def _as_small(case: Case) -> Answer:
    """Parameters of LoRA of rank 1 on queries and values, as a multiple of IA³'s."""
    shape = case.shape
    vectors = shape.num_layers * (2 * shape.kv_width + case.matrix("down").in_features)
    lora = shape.num_layers * (both(case.matrix("q")) + both(case.matrix("v")))
    ratio = lora / vectors
    return told(ratio, "times", many="as many" if plain(ratio) == "1" else f"{plain(ratio)} times as many")


def _where_it_holds(case: Case) -> Answer:
    """The catalogue's models on which IA³ at its defaults trains less than was claimed."""
    spec = get_method("ia3")
    holds = []
    for entry in catalogue().values():
        if any(problem.level == "error" for problem in spec.problems(entry.shape, {})):
            continue
        trained = spec.formula(entry.shape, spec.require(entry.shape, {})).trainable
        if 100 * trained / (entry.shape.total + trained) < case.number("claimed"):
            holds.append(entry.title)
    return told(len(holds), "", names=", ".join(holds))


def _one_entry(case: Case) -> Answer:
    return told(case.matrix("down").out_features)


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "ia3-vectors": (
        then(
            "Which rank would LoRA on queries and values need to be as small?",
            "Compare with rank one, the smallest there is: it has {{many}} parameters as the vectors here.",
            src.ALGEBRA, f"{src.LORA}, section 4.1", calculate=_as_small,
            opens=lab("ia3", model=LLAMA, tab="parameters"),
        ),
        then("And at a usual rank?", to="ia3-against-lora"),
    ),
    "ia3-start": (
        then(
            "What does weight decay towards zero do to such a vector?",
            "It pulls every entry from one towards zero, so it shrinks keys, values and activations even where the "
            "task asks for no change. Switch it off for these vectors, or decay towards one.",
            src.ALGEBRA,
        ),
        then(
            "And how far do the entries move from one, in practice?",
            "*Look inside* shows it by layer and by kind: which features are amplified and which are inhibited.",
            src.RUN, opens=lab("ia3", model=SMOL, tab="look inside"),
        ),
    ),
    "ia3-merge-why": (
        then(
            "What about a bias of the scaled map?",
            "The vector multiplies the whole output, bias included: $l \\odot (Wx + b)$. So merging scales the bias by "
            "the same entries. Where the vector acts on a map's input, the bias stays as it is.",
            src.ALGEBRA, src.PEFT,
        ),
        then("Exactly one entry differs from one: what changes in the key map?", to="ia3-merge-key"),
        then(
            "After merging LoRA in bfloat16 the outputs differ by a percent. Is that a bug?",
            to="serve-merge-low-precision",
        ),
    ),
    "ia3-share": (
        then(
            "On which models of the catalogue does the sentence hold, at PEFT's defaults?",
            "On {{value}}: {{names}}. What decides is the ratio of width to size, not the family's name.",
            src.ALGEBRA, calculate=_where_it_holds, opens=lab("fact_check", claim="ia3-share"),
        ),
        then("It trains far less than LoRA and yet peaked higher. How can that be?", to="ia3-peak"),
    ),
    "ia3-against-lora": (
        then("Which of them peaks higher in training, and why?", to="ia3-peak"),
        then(
            "And which was better in the published comparison?",
            f"LoRA: {right('lora-rank32')} right against {right('ia3-default')} of IA³ at its defaults. At a larger "
            f"rate "
            f"and with all attention maps IA³ came to {right('ia3-all-attn-5k-lr0.005')}: settings moved it by more "
            f"than "
            "the choice of method would.",
            src.BENCH,
        ),
    ),
    "ia3-merge-key": (
        then("And for the feed-forward vector?", to="ia3-merge-ff"),
        then(
            "How would you see afterwards that a model was tuned so?",
            "Divide the merged map by the base's, entry by entry: every row has one constant ratio. A low-rank change "
            "shows no such pattern, and its difference has low rank instead.",
            src.ALGEBRA,
        ),
    ),
    "ia3-optimizer": (
        then(
            "So what would you shrink next?",
            "Activations, by checkpointing, shorter rows or fewer at once; then the weights, by 4 bits. Gradients and "
            "moments are nothing any more.",
            f"{src.CHECKPOINTING}, section 4", f"{src.QLORA}, section 3",
            opens=lab("memory", model=LLAMA, method="ia3", checkpointing=True, tab="timeline"),
        ),
        then("What does checkpointing keep, in bytes?", to="memory-checkpoints"),
    ),
    "ia3-expressiveness": (
        then(
            "Which method would you move to when IA³ underfits?",
            "LoRA at a small rank on every linear map: it can mix features, can still be merged, and there is a knob "
            "for more. Before that raise IA³'s learning rate; that was worth many points in the published comparison.",
            src.BENCH, f"{src.LORA}, section 4.1",
        ),
        then(
            "Is IA³ a special case of LoRA, then?",
            "Of LoRA with a rank as large as the matrix, yes: any change can be written so. Of a small rank, no: "
            "(diag(l) − I)W has as many independent rows as entries of l that differ from one.",
            src.ALGEBRA,
        ),
        then("How do its vectors start, so that nothing changes at first?", to="ia3-start"),
    ),
    "ia3-merge-ff": (
        then(
            "What does PEFT do when a name is missing from `feedforward_modules`?",
            "It trains that module's vector on the output instead of the input, without a word: another length and "
            "another method. For the down map that is {{value}} numbers, as many as it has outputs.",
            src.PEFT, calculate=_one_entry, opens=lab("ia3", model=LLAMA, tab="modules"),
        ),
        then("And on models that fuse query, key and value?", to="ia3-fused"),
    ),
    "ia3-fused": (
        then(
            "How would you keep the queries unscaled?",
            "Fix the first third of the vector at one: mask its gradient, or set it back after every step. Or split "
            "the fused map into three. PEFT has no setting for it.",
            src.PEFT, src.ALGEBRA, opens=lab("ia3", model="gpt2", tab="modules"),
        ),
        then(
            "On which other architectures do the defaults differ from the paper?",
            "In PEFT's table OPT gets queries and keys, Gemma and Qwen get queries and values, Falcon and BLOOM their "
            "fused map. Read the module list instead of trusting the method's name.",
            src.PEFT,
        ),
        then("What else passes silently when names are wrong?", to="train-misspelt"),
    ),
    "ia3-peak": (
        then(
            "What would gradient checkpointing do to the comparison?",
            "Most activations are recomputed then, for both, and only one layer's are there at a time. The difference "
            "shrinks with them, and weights and logits decide. It costs one forward pass more.",
            f"{src.CHECKPOINTING}, section 4",
            opens=lab("memory", model=LLAMA, checkpointing=True, batch=4, seq=768, tab="timeline"),
        ),
        then(
            "How large was the difference?",
            f"{reserved('ia3-default')} reserved with IA³, {reserved('lora-rank32')} with LoRA of rank 32, on the same "
            "model, batch and card. Make the Lab simulate it, after you have guessed.",
            src.BENCH, opens=lab("misconceptions", belief="predict-ia3-peak"),
        ),
    ),
    "ia3-recipe": (
        then(
            "How would you test which part carries your own result?",
            "Take one part out at a time: the base, the extra losses, the pretrained vectors, with several seeds and "
            "the same tuning. And put the vectors alone on your own base, because that is what you would deploy.",
            f"{src.IA3}, section 3",
        ),
        then("You have 60 examples. Which methods do you compare, and how?", to="choose-few-shot"),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on IA³.


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


# ----------------------------------------
# Doubts about answers on IA³.


CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "ia3-start",
        "The vectors start at one.",
        "Everything in PEFT starts at zero, so that nothing is changed.",
        "What is added starts at zero. These multiply, and one is what changes nothing; zero would erase keys and "
        "values.",
        f"{src.IA3}, section 3.3",
    ),
    hold(
        "ia3-peak",
        "IA³ may peak above LoRA although it trains less.",
        "Fewer parameters, fewer gradients, fewer moments: that is less memory, by arithmetic.",
        "By arithmetic all three are next to nothing for both. Activations decide, and a product with a trained vector "
        "has to keep what it multiplies.",
        src.BENCH, src.RUN, opens=lab("misconceptions", belief="predict-ia3-peak"),
    ),
    give_way(
        "ia3-expressiveness",
        "IA³ is LoRA of rank one.",
        "What is the rank of a diagonal matrix times W?",
        "Usually high: every row may be scaled differently. It has few degrees of freedom, but not a low rank. The two "
        "are different restrictions.",
        src.ALGEBRA, f"{src.IA3}, section 3.3",
    ),
    give_way(
        "ia3-share",
        "IA³ trains under {{claimed}}% of any model.",
        "Of this one, too?",
        "Work it out: it is {{value}} here. Vectors grow with the width and matrices with its square, so the share "
        "belongs to a model.",
        f"{src.IA3}, section 3.3", opens=lab("fact_check", claim="ia3-share"),
    ),
    hold(
        "ia3-merge-why",
        "The feed-forward vector can be merged as well.",
        "It stands behind a nonlinearity. That cannot be merged, as with adapters.",
        "It acts after the nonlinearity and before the next linear map, so it scales that map's columns. A vector "
        "before "
        "the nonlinearity would be merged into the map in front.",
        f"{src.IA3}, section 3.3", src.ALGEBRA,
    ),
)  # fmt: skip
