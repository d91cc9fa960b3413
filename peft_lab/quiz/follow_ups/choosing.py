"""What is asked after the questions on choosing a method."""

from __future__ import annotations

import math

from peft_lab import references as src
from peft_lab.methods import get_method
from peft_lab.quiz.calculations.choosing import SMALL_CANDIDATES
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.published import right, slower
from peft_lab.quiz.working import told

LLAMA = "llama-3.2-3b"
EXAMPLES, SHARE = 60, 0.8  # and the share of right answers among them
NINETY_FIVE = 1.96  # standard deviations to either side


def _in_order(case: Case) -> Answer:
    counts = {
        "adapters": case.stored("adapters", placement="houlsby", bottleneck=case["m"]),
        "lora": case.stored("lora", r=case["r"]),
        "prefix": case.stored("prefix", num_virtual_tokens=case["n"]),
        "prompt": case.stored("prompt", num_virtual_tokens=case["n"]),
    }
    ordered = sorted(SMALL_CANDIDATES, key=counts.__getitem__)
    return told(0, "", order="; ".join(f"{get_method(slug).title} {counts[slug]:,}" for slug in ordered[1:]))


def _interval(case: Case) -> Answer:
    """Half of the interval that 95 of 100 samples of 60 examples keep to, in points."""
    half = 100 * NINETY_FIVE * math.sqrt(SHARE * (1 - SHARE) / EXAMPLES)
    return told(round(half), "", share=f"{SHARE:.0%}")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "choose-smallest": (
        then(
            "Order the other three.",
            "From the smallest: {{order}}. The order belongs to these settings on this model.",
            src.ALGEBRA, calculate=_in_order, opens=lab("prompt", model=LLAMA, num_virtual_tokens=20, tab="parameters"),
        ),
        then("So the smallest needs the least memory?", to="memory-fewer-parameters"),
    ),
    "choose-mergeable": (
        then(
            "What if the base is stored in 4 bits?",
            "Then there is no exact merge: the product is rounded again, or the base is unpacked to 16 bits, which "
            "gives up the memory. Unmerged, IA³'s products cost next to nothing.",
            f"{src.IA3}, section 3.3", src.RUN,
        ),
        then("And for LoRA, what are the ways?", to="qlora-merge"),
    ),
    "choose-bitfit-model": (
        then(
            "Where does Qwen2.5 stand?",
            "In between: it kept biases in query, key and value maps and nowhere else. BitFit runs, with few "
            "parameters in few places.",
            src.RUN, opens=lab("bitfit", model="qwen2.5-0.5b", tab="modules"),
        ),
        then("How many are they?", to="bitfit-attention-only"),
    ),
    "choose-prompt-first": (
        then(
            "When does retrieval not help?",
            "When it is behaviour, style or format that is wrong rather than facts; when what is needed cannot be "
            "found by a search; when there is no room or time for long contexts. And it cannot teach a skill.",
            src.RETRIEVAL,
        ),
        then(
            "They insist on training. What is your baseline?",
            "The untrained model with the best prompt, on the same held-out set and metric, and a small LoRA at a "
            "tuned rate. Whatever comes later has to beat both.",
            src.BENCH, opens=lab("choose", prompting="yes"),
        ),
        then("And with 60 labelled examples?", to="choose-few-shot"),
    ),
    "choose-least-that-fits": (
        then(
            "What would you do if it fits by a hair?",
            "Simulate the step with the real lengths, since activations are not in this sum. Then checkpoint, cut the "
            "rows at once and accumulate, or go one step further down: a run that dies on the longest row has cost "
            "more than a slower one.",
            src.RUN, opens=lab("memory", model="llama-2-7b", device="rtx-4090", tab="fits"),
        ),
        then("And what does QLoRA not save?", to="qlora-not-saved"),
    ),
    "choose-rank-for-budget": (
        then("Would you spend the budget on rank or on more target maps?", to="lora-which-targets"),
        then(
            "And halve the file without touching either?",
            "It is in 16 bits already. One could share matrices between layers, or store them in 8 bits; then measure "
            "the score again, since rounding A and B is an error in ΔW.",
            src.ALGEBRA, opens=lab("lora", model=LLAMA, tab="parameters"),
        ),
    ),
    "choose-encoder": (
        then("How could an encoder still be given a deep prompt?", to="prefix-on-encoders"),
        then(
            "Show me the refusal.",
            "The Lab runs it on a BERT classifier and shows the message.",
            src.RUN, opens=lab("misconceptions", belief="predict-prefix-encoder"),
        ),
    ),
    "choose-methods-that-run": (
        then(
            "Which of the rest would you try first for classification, and why?",
            "LoRA on every linear map at a tuned rate, with the head saved; full fine-tuning beside it, because an "
            "encoder is small enough. BitFit as a cheap third. Prompts last: on small models they are behind.",
            f"{src.PROMPT}, section 3.1", src.BITFIT, opens=lab("choose", model="bert-base"),
        ),
        then("It scores well in training and guesses after loading. Why?", to="train-head"),
    ),
    "choose-few-shot": (
        then(
            "How do you report a result on 60 examples honestly?",
            "With its uncertainty. At {{share}} right the binomial interval alone is about {{value}} points to either "
            "side, before the spread over seeds and over which examples were drawn. Use cross-validation, several "
            "seeds, and say what was tuned on what.",
            src.ALGEBRA, calculate=_interval, opens=lab("choose", rows="60"),
        ),
        then("Which parts of IA³'s few-shot recipe are not IA³?", to="ia3-recipe"),
    ),
    "choose-gpus-for-full": (
        then(
            "What does sharding cost in communication?",
            "Splitting moments and gradients costs no more than plain data parallelism. Splitting the weights as well "
            "costs half as much again: they have to be gathered in the forward and in the backward pass.",
            f"{src.ZERO}, section 7", opens=lab("choose", model="llama-3.1-70b", devices="8"),
        ),
        then("And how many bytes is it per parameter, and what for?", to="memory-mixed-adam"),
    ),
    "choose-when-full": (
        then("What is forgetting, and would LoRA prevent it?", to="train-forgetting"),
        then(
            "Someone says LoRA always matches it. What do you ask?",
            "On how much data, with which targets and which rank, and at which learning rate each. It matched on "
            "instruction sets with LoRA on all maps; on continued pretraining with much new text it fell behind.",
            f"{src.LORA_REGRET}, introduction", f"{src.LEARNS_LESS}, section 4",
            opens=lab("fact_check", claim="full-always-best"),
        ),
    ),
    "choose-fair-comparison": (
        then(
            "How many seeds are enough to tell two methods apart?",
            "It depends on the spread: the standard error falls with the root of the number. Three show whether the "
            "spread is large, five to ten tell differences about as large as it. With the same seeds and data for "
            "both, "
            "compare pairs.",
            src.ALGEBRA,
        ),
        then(
            "Give me one example in which settings moved more than the method.",
            f"Prompt Tuning in the published comparison: {right('prompt_tuning-default')} right at its default rate, "
            f"{right('prompt_tuning-sample_vocab-lr_0.001')} at a tenfold rate and started from words of the "
            f"vocabulary.",
            src.BENCH, opens=lab("fact_check", claim="method-matters-most"),
        ),
        then("Why do the methods want such different rates?", to="train-learning-rate"),
    ),
    "choose-variants": (
        then("What happens if AdaLoRA's update is never called?", to="train-adalora"),
        then(
            "And what did DoRA cost there?",
            f"A step took {slower('lora-rank32-dora', 'lora-rank32')} longer than LoRA's at the same rank. The score "
            f"was {right('lora-rank32-dora')} against {right('lora-rank32')}, one run each: no difference to build on.",
            src.BENCH, opens=lab("fact_check", claim="dora-better"),
        ),
    ),
}  # fmt: skip
