"""What is asked after the questions on BitFit."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import RATE, fact
from peft_lab.interview.calculations import bitfit as calc
from peft_lab.interview.computed import Answer, Case, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    give_way,
    hold,
    lab,
    then,
    with_biases,
    without_biases,
)
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModelShape

MINILM = "minilm-l6"


def _with_some(case: Case) -> Answer:
    names = [entry.title for entry in catalogue().values() if entry.shape.biases]
    return told(len(names), "", names=", ".join(names), all=len(catalogue()))


def _adapted_norms(case: Case) -> Answer:
    """Scales of the norms, of which every norm has as many as biases."""
    value = sum(group.count * group.parameters[name][0] for group, name in case.shape.biases if group.is_norm)
    return told(value, "parameters")


def _half(case: Case) -> Answer:
    spec, shape = get_method("bitfit"), case.shape
    value = spec.formula(shape, spec.require(shape, {"subset": "query_mlp"})).trainable
    whole = spec.formula(shape, spec.require(shape, {})).trainable
    return told(100 * value / whole, "percent")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "bitfit-share": (
        then("And on a Llama?", to="bitfit-none"),
        then(
            "Does the share fall on larger models of the same kind?",
            "Yes: there is one bias per output, so biases grow with the width and matrices with its square.",
            src.ALGEBRA, opens=lab("bitfit", model="roberta-large", tab="parameters"),
        ),
    ),
    "bitfit-none": (
        then(
            "Which current models do have some?",
            "Of the {{all}} models in the Lab's catalogue {{value}}: {{names}}. Look for the Qwen types: theirs are in "
            "query, key and value only.",
            src.RUN, calculate=_with_some, opens=lab("bitfit", model="qwen2.5-0.5b", tab="modules"),
        ),
        then("Why were they left out elsewhere?", to="bitfit-why-no-bias"),
    ),
    "bitfit-inference": (
        then(
            "How would you serve several BitFit tasks in one batch?",
            "Keep the biases of each task beside the base, and add to every row of a map's output its own task's bias: "
            "one gathered addition per map, no further product. No usual engine has it ready, so it is code of one's "
            "own.",
            src.ALGEBRA,
        ),
        then("How is that done for LoRA?", to="serve-heterogeneous"),
    ),
    "bitfit-count": (
        then(
            "The paper names two kinds of bias that nearly suffice. What share are they?",
            "{{value}} of them: the query's bias and that of the map that widens the feed-forward part.",
            src.BITFIT, calculate=_half,
            opens=lab("bitfit", model="bert-base", subset="query_mlp", tab="parameters"),
        ),
        then("How many parameters is that?", to="bitfit-subset"),
    ),
    "bitfit-subset": (
        then(
            "Why could just these two matter most?",
            "They are the two whose effect depends on the input: the query's bias meets each key with another result, "
            "and the widening map's stands before the nonlinearity and decides which units are on. Others shift what a "
            "later norm or softmax partly takes away. That is an explanation, the paper gives the measurement.",
            src.BITFIT, src.ALGEBRA,
        ),
        then("And which of the others can do nothing at all?", to="bitfit-inert-keys"),
    ),
    "bitfit-rate": (
        then(
            "How would you find a good rate in three short runs?",
            "Spread them by factors of ten or so around 1e-3 and compare the held-out loss after the same steps. Go on "
            "between the two best. The largest rate that does not diverge is usually near the best one.",
            src.RUN, opens=lab("bitfit", model=MINILM, tab="train"),
        ),
        then("Why do small methods want large rates at all?", to="train-learning-rate"),
    ),
    "bitfit-why-no-bias": (
        then(
            "What is the closest thing to BitFit that a Llama allows?",
            "Training the scales of its norms: also a vector per layer that exists anyway, and free at inference. "
            "PEFT has it as LN Tuning. IA³ is near in size, but has to be merged to be free.",
            src.PEFT, src.ALGEBRA,
        ),
        then("And what can such vectors not do?", to="bitfit-limits"),
    ),
    "bitfit-attention-only": (
        then(
            "Does the key's bias act here, unlike in BERT?",
            "Yes. Rotary embeddings turn query and key by their positions after the bias is added, so its product with "
            "a query depends on the distance, and softmax does not cancel it. In BERT it adds the same to all scores "
            "of a query.",
            src.ALGEBRA, f"{src.TRANSFORMER}, section 3.2",
        ),
        then("Show it for BERT: how many numbers do nothing?", to="bitfit-inert-keys"),
    ),
    "bitfit-norm-share": (
        then(
            "Would training the norms' scales as well still be BitFit?",
            "By name no: they are weights, {{value}} here if every norm has one scale for each bias. As an idea it is "
            "near: vectors that exist anyway, nothing added. Report it as what it is.",
            src.ALGEBRA, src.BITFIT, calculate=_adapted_norms,
        ),
        then("Why has a Llama none of these biases?", to="bitfit-why-no-bias"),
    ),
    "bitfit-inert-keys": (
        then(
            "Does this hold with rotary position embeddings?",
            "No. The bias is turned with the key, so what it adds to a score depends on where the key stands. It is "
            "the "
            "absolute position embedding, added before the map, that leaves the bias the same for all keys.",
            src.ALGEBRA,
        ),
        then(
            "How would you see it in a trained BitFit model?",
            "The key's biases have hardly moved; what moved them is rounding, and weight decay if it is on. *Look "
            "inside* "
            "shows the movement by kind of bias.",
            src.RUN, opens=lab("bitfit", model=MINILM, tab="look inside"),
        ),
        then(
            "Then guess which attention bias has the smallest gradient.",
            "The Lab measures it on a BERT with random weights, in double precision.",
            src.RUN, opens=lab("misconceptions", belief="predict-key-bias"),
        ),
    ),
    "bitfit-limits": (
        then(
            "How did it compare with full fine-tuning as data grew in the paper?",
            "On growing parts of SQuAD it was ahead with little data and behind with much: the trend turns.",
            f"{src.BITFIT}, figure 2",
        ),
        then(
            "What does that say about what fine-tuning does?",
            "With little data it brings out what pretraining put there, and shifting units is enough for that. With "
            "much there is something new to learn, and then capacity counts.",
            f"{src.BITFIT}, abstract", opens=lab("fact_check", claim="bitfit-small-data"),
        ),
        then("When is full fine-tuning worth it, then?", to="choose-when-full"),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on BitFit.


MODEL = "bert-base"
ask = partial(Question, topic="bitfit", model=MODEL, fits=with_biases)


def full_of_biases(shape: ModelShape) -> bool:
    """BERT types: a bias in every linear map, learned absolute positions, separate query and key."""
    return with_biases(shape) and shape.kind == "encoder"


def with_norm_biases(shape: ModelShape) -> bool:
    """Whether the model has biases, in norms too."""
    return with_biases(shape) and any(group.is_norm for group, _ in shape.biases)


def only_in_attention(shape: ModelShape) -> bool:
    """Whether all its biases are those of queries, keys and values."""
    return bool(shape.biases) and all(group.role in ("q", "k", "v") for group, _ in shape.biases)


_ASKED = (
    ask(
        id="bitfit-share", level="basic", kind="numeric", calculate=calc.share_of_model,
        question="Which share of {{model}}'s {{total}} parameters are biases ({{layers}} layers, hidden "
        "{{hidden}}, feed-forward {{intermediate}}), norms included?",
        answer="{{value}}: {{trained}} numbers.",
        listen_for=("one bias per output", "norms have them, too", "nothing is added, so the total stays"),
        wrong=("a percent or more",),
        sources=(src.BITFIT,),
    ),
    ask(
        id="bitfit-none", level="basic", kind="numeric", calculate=calc.none_here, model="llama-3.2-3b",
        fits=without_biases,
        question="How many parameters does BitFit train on {{model}}?",
        answer="{{value}}: its linear maps and norms have no biases, so there is nothing to train. Adding new "
        "biases is possible, but it is another method.",
        listen_for=("asks whether the architecture has biases", "RMSNorm has a scale only"),
        wrong=("0.08%, quoted from another model",),
        sources=(src.BITFIT, src.RUN),
    ),
    ask(
        id="bitfit-inference", level="basic", kind="free", model=None,
        question="Why does BitFit cost nothing at inference? Under which condition is that so?",
        answer="It changes values of parameters that the model has anyway; no module, no multiplication and no "
        "position is added. The condition is that the biases exist: on a model built without them they would have "
        "to be added, as extra work and extra code.",
        listen_for=(
            "It changes values of parameters that exist; no module, multiplication or position is added.",
            "The condition: the model has biases; otherwise they would have to be added.",
            "Switching tasks means exchanging the biases; one copy serves one task at a time.",
        ),
        wrong=(
            "'because it has few parameters': LoRA unmerged has few, too, and costs time",
            "'it adds bias vectors to the layers'", "'several tasks share one batch without further work'",
        ),
        sources=(src.BITFIT,),
    ),
    ask(
        id="bitfit-count", level="medium", kind="numeric", calculate=calc.all_biases, fits=full_of_biases,
        question="Count the biases of {{model}}: {{layers}} layers with query, key, value, attention output "
        "({{hidden}} each), feed-forward {{hidden}} → {{intermediate}} → {{hidden}} and two norms; outside, the "
        "norm of the embeddings and the pooler.",
        answer="{{value}}, {{share}} of all parameters. {{outside}} of them are outside the layers.",
        listen_for=("sorted by layer and outside", "the widening map has the largest bias"),
        wrong=("forgets norms", "forgets the pooler"),
        sources=(src.BITFIT,),
    ),
    ask(
        id="bitfit-subset", level="medium", kind="numeric", calculate=calc.subset, fits=full_of_biases,
        question="The paper also trains two kinds of bias alone: the query's and that of the feed-forward part's "
        "widening map. How many parameters is that on {{model}} ({{layers}} layers, hidden {{hidden}}, "
        "feed-forward {{intermediate}})?",
        answer="{{value}}, {{share}} of all biases, at nearly the same scores.",
        listen_for=("hidden plus feed-forward width, per layer", "an ablation that tells which biases matter"),
        wrong=("takes both to be as wide as the model",),
        sources=(src.BITFIT,),
    ),
    ask(
        id="bitfit-rate", level="medium", kind="free", model=None,
        facts=(fact("bitfit", RATE, (3e-4, 3e-3), live="no", kind="encoder"),),
        question="You run BitFit with the learning rate of your last full fine-tuning and it learns nothing. What "
        "do you change?",
        answer="Raise the rate by one or two orders of magnitude: of the order of 1e-3 instead of 1e-5. Few "
        "parameters with small effect have to carry the change. Also look whether any parameter is trainable, "
        "whether the head is, and whether weight decay pulls on the biases.",
        listen_for=(
            "Raise the rate by one or two orders of magnitude.", "To the order of 1e-3, or between 1e-4 and 1e-2.",
            "Few parameters of small effect have to carry the change.",
            "Also check what is trainable: biases, the head, weight decay.",
        ),
        wrong=("trains longer at the same rate", "'lower the rate'"),
        sources=(src.BITFIT, src.RUN),
    ),
    ask(
        id="bitfit-why-no-bias", level="medium", kind="free", model=None,
        question="Why do Llama-type models have no biases, and what does that teach about BitFit?",
        answer="Large decoders dropped them: PaLM reports steadier training without, and quality did not suffer. "
        "Qwen2 kept them for queries, keys and values only. So BitFit belongs to BERT, RoBERTa and GPT-2 types; a "
        "method that depends on a detail of the architecture can vanish with it.",
        listen_for=(
            "Large decoders dropped them: training was steadier, and quality did not suffer.",
            "So BitFit depends on the architecture: where there are no biases there is nothing to train.",
            "It belongs to BERT, RoBERTa or GPT-2 types; Qwen2 keeps biases for queries, keys and values.",
        ),
        wrong=("that biases are folded into the norms", "'BitFit works on Llama as well'"),
        sources=(f"{src.PALM}, section 2", src.RUN),
    ),
    ask(
        id="bitfit-attention-only", level="hard", kind="numeric", calculate=calc.attention_only,
        model="qwen2.5-0.5b", fits=only_in_attention,
        question="{{model}} has biases in its query, key and value maps only ({{layers}} layers, {{heads}} query "
        "heads and {{kv_heads}} key/value heads of size {{head_dim}}). How many parameters does BitFit train?",
        answer="{{value}}, {{share}} of all: far below what BitFit has on BERT.",
        listen_for=("grouped-query attention in the bias, too", "doubts that so few places suffice"),
        wrong=("three times the hidden size per layer where keys and values are narrower",),
        sources=(src.RUN, src.BITFIT),
    ),
    ask(
        id="bitfit-norm-share", level="hard", kind="numeric", calculate=calc.norm_share, fits=with_norm_biases,
        question="Which share of {{model}}'s biases sits in its norms ({{layers}} layers, hidden {{hidden}}, "
        "feed-forward {{intermediate}})?",
        answer="{{value}}.",
        listen_for=("counts the norm outside the layers", "ratio of like things"),
        wrong=("forgets that norms have biases",),
        sources=(src.BITFIT,),
    ),
    ask(
        id="bitfit-inert-keys", level="hard", kind="numeric", calculate=calc.inert_keys, fits=full_of_biases,
        question="In {{model}} ({{layers}} layers, keys {{kv_width}} wide, absolute positions) some of the biases "
        "that BitFit trains cannot change any output. Which ones, and how many numbers are they?",
        answer="The key's: it adds the same amount to all scores of a query, and softmax ignores that. {{value}}, "
        "{{share}} of all biases, whose gradient is zero but for rounding.",
        listen_for=(
            "softmax is invariant to a shift",
            "the query's bias is different: it meets each key",
            "absolute positions: with rotary ones the key's bias acts",
        ),
        wrong=("all attention biases", "none"),
        sources=(src.ALGEBRA, f"{src.TRANSFORMER}, section 3.2"),
    ),
    ask(
        id="bitfit-limits", level="hard", kind="free", model=None,
        question="What can changing the biases do to a network, and what can it not do? Predict when BitFit fails.",
        answer="It shifts pre-activations by constants that do not depend on the input: which units are on, how "
        "strongly parts are weighted before norms and softmax. It cannot create new interactions between features, "
        "since all products stay as they were. It exposes what pretraining left there: enough for classification "
        "with few data, not for new knowledge or long generation in a new format.",
        listen_for=(
            "input-independent shifts, input-dependent effects through nonlinearities",
            "exposing what is there against learning something new",
            "small data against large",
        ),
        wrong=("that constant shifts have no effect beyond the last layer",),
        sources=(src.BITFIT,),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on BitFit.


CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "bitfit-none",
        "None.",
        "0.08%, it is in every overview.",
        "That is a BERT. {{model}} has no biases, neither in its maps nor in its norms, so there is nothing to train.",
        src.RUN, src.BITFIT, opens=lab("fact_check", claim="bitfit-share"),
    ),
    give_way(
        "bitfit-rate",
        "It learns nothing at the rate of my last full fine-tuning, so the method does not work here.",
        "Which rate was that?",
        "One that is made for moving all weights a little. A few biases have to move far: try rates ten to a hundred "
        "times larger before you judge, and check that they are trainable.",
        src.BITFIT, src.RUN,
    ),
    hold(
        "bitfit-inert-keys",
        "The key's biases change nothing: {{value}} that are trained in vain.",
        "Every bias in attention shifts the scores, so they all matter.",
        "The key's adds the same to all scores of one query, and softmax takes that out. The query's meets each key "
        "with "
        "another result, so it does matter. With rotary positions the key's would, too.",
        src.ALGEBRA, opens=lab("misconceptions", belief="predict-key-bias"),
    ),
    give_way(
        "bitfit-inference",
        "It is free at inference because it has so few parameters.",
        "LoRA has few as well, and unmerged it costs time.",
        "Right: what counts is that nothing is added. BitFit changes values of parameters the model has anyway. On a "
        "model without biases that argument is gone.",
        src.BITFIT,
    ),
    hold(
        "bitfit-limits",
        "With much data I would expect it to fall behind.",
        "It matched full fine-tuning in its paper. Why should that change?",
        "It matched with small and medium data; on growing parts of SQuAD the trend turned. Shifts bring out what is "
        "there, and much data hold something new.",
        f"{src.BITFIT}, abstract and figure 2",
    ),
)  # fmt: skip
