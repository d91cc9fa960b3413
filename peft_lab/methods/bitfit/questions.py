"""Questions on BitFit."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import RATE, fact
from peft_lab.methods.bitfit import calculations as calc
from peft_lab.methods.bitfit.follow_ups import FOLLOW_UPS
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.fits import with_biases, without_biases
from peft_lab.quiz.question import Question, followed

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
