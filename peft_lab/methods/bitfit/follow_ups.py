"""What is asked after the questions on BitFit."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.working import told

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
