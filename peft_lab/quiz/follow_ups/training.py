"""What is asked after the questions on training."""

from __future__ import annotations

import math

from peft_lab import references as src
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.working import told

LLAMA, SMOL, MINILM = "llama-3.2-3b", "smollm2-135m", "minilm-l6"
ACCUMULATE = 4


def _accumulated(case: Case) -> Answer:
    batches = math.ceil(case["rows"] / case["batch"])
    return told(math.ceil(batches / ACCUMULATE) * case["epochs"], "", accumulate=ACCUMULATE)


def _halved(case: Case) -> Answer:
    return told(2 * case["accumulate"], "", devices=case["devices"] // 2)


def _sorted_pairs(case: Case) -> Answer:
    """Padding where the sequences are sorted and batched by halves."""
    lengths = sorted(case.numbers("lengths"))
    half = len(lengths) // 2
    places = half * lengths[half - 1] + (len(lengths) - half) * lengths[-1]
    return told(100 * (1 - sum(lengths) / places), "percent")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "train-steps": (
        then(
            "And with gradient accumulation over {{accumulate}} batches?",
            "{{value}} updates: a quarter as many, rounded up within each epoch where what is left over makes an "
            "update "
            "of its own. Say what your trainer does with the rest.",
            "Transformers documentation, Trainer, gradient accumulation", src.ALGEBRA, calculate=_accumulated,
        ),
        then("How many examples are in one update?", to="train-effective-batch"),
    ),
    "train-effective-batch": (
        then(
            "What has to change when you halve the devices?",
            "Accumulate {{value}} steps instead on {{devices}}: then an update has as many examples as before, and the "
            "learning rate and the schedule stay. It takes twice as long.",
            "Transformers documentation, Trainer, gradient accumulation", calculate=_halved,
        ),
        then(
            "Is accumulation exactly the same as a large batch?",
            "If every example counts alike, up to rounding. With a loss averaged over tokens it is not: a mean of "
            "means "
            "weights short batches too much, unless the sum is divided by the tokens of all of them. Statistics over a "
            "batch would differ, too.",
            src.ALGEBRA, opens=lab("memory", model=LLAMA, batch=4, seq=768, tab="curves"),
        ),
    ),
    "train-warm-up": (
        then(
            "Does LoRA need a warm-up, given that it starts at zero?",
            "Less urgently: the first steps change little, because B is near zero. But Adam's early estimates are just "
            "as poor, and B grows fastest then. A few percent of warm-up cost nothing.",
            f"{src.ADAM}, algorithm 1", src.ALGEBRA,
        ),
        then("And why is the rate it warms up to larger than in full fine-tuning?", to="train-learning-rate"),
    ),
    "train-learning-rate": (
        then(
            "How does α enter the effective rate of LoRA?",
            "Through α/r in front of BA: twice α doubles what each step does to W. So a rate is worth nothing without "
            "the α and r it belongs to.",
            f"{src.LORA}, section 4.1", opens=lab("lora", model=MINILM, tab="try it"),
        ),
        then(
            "Show me LoRA at the rate of full fine-tuning.",
            "The same data, the same steps, two rates. Guess first.",
            src.RUN, opens=lab("misconceptions", belief="predict-learning-rate"),
        ),
    ),
    "train-labelled-share": (
        then(
            "When would you train on the prompt as well?",
            "When prompts are text of the kind to be learnt, as in continued pretraining, or when completions are so "
            "short that they carry hardly any signal. For instructions masking the prompt is usual; measure both where "
            "it matters.",
            src.TRL, src.ALGEBRA,
        ),
        then("Logits at the prompt's positions: what do they cost in memory?", to="memory-logits"),
    ),
    "train-padding": (
        then(
            "What is the risk of strict sorting by length?",
            "Batches become alike: short and long examples often differ in kind, and going from short to long is a "
            "curriculum nobody asked for. Sort within buckets and shuffle the batches. In two sorted halves the "
            "padding "
            "here would fall to {{value}}.",
            src.ALGEBRA, calculate=_sorted_pairs,
        ),
        then(
            "And packing instead of padding?",
            "Several examples in one row with the attention and the positions kept apart: no padding at all. If they "
            "are not kept apart, examples read each other.",
            src.TRL, opens=lab("memory", model=LLAMA, batch=4, seq=768, tab="curves"),
        ),
    ),
    "train-first-gradient": (
        then(
            "And if A were zero and B random?",
            "Then A alone gets a gradient in the first step: the gradient of B contains A x, which is zero. After a "
            "step both learn.",
            src.ALGEBRA, opens=lab("misconceptions", belief="predict-first-gradient"),
        ),
        then("Why does LoRA have the start it has?", to="lora-why-b-zero"),
    ),
    "train-forgetting": (
        then(
            "How do you measure it?",
            "Score what the model could do before on tests that have nothing to do with the task, before and after: "
            "loss on general text, a few benchmarks, refusals. Plot it against what was learnt, for every rate.",
            f"{src.LEARNS_LESS}, section 4",
        ),
        then(
            "And how do you reduce it further?",
            "Fewer steps and a lower rate, a smaller rank, old examples mixed in, a smaller scale when the adapter is "
            "used. Each of them gives up some of what was learnt.",
            f"{src.LEARNS_LESS}, section 4", opens=lab("choose", forgetting="matters"),
        ),
        then("When is it worth paying that price in full?", to="choose-when-full"),
    ),
    "train-head": (
        then(
            "How should the head be counted in 'trainable %'?",
            "As a part of its own: it is trained and stored, but it is not the method's. A comparison of methods that "
            "mixes it in tells mostly how large the head is.",
            src.PEFT, opens=lab("lora", model=MINILM, tab="parameters"),
        ),
        then("What else would you check when a loaded adapter gives nonsense?", to="serve-base-version"),
    ),
    "train-misspelt": (
        then("Which mistake makes the count too large instead?", to="train-wrapped-twice"),
        then(
            "Show me that nothing is said.",
            "The Lab gives PEFT one right and one misspelt name and shows what comes back.",
            src.RUN, opens=lab("misconceptions", belief="predict-misspelt"),
        ),
    ),
    "train-work-ratio": (
        then(
            "What does checkpointing add to both?",
            "One forward pass each: full fine-tuning goes from three units to four, LoRA from two to three. So the "
            "share "
            "that LoRA saves becomes smaller.",
            f"{src.CHECKPOINTING}, section 4", f"{src.SCALING}, section 2.1",
        ),
        then(
            "Where does the optimizer's time come in?",
            "It reads and writes a few numbers per trained parameter, limited by memory traffic. In full fine-tuning "
            "it "
            "is a visible part of a step with few tokens; with LoRA there is nothing to see.",
            src.ALGEBRA, opens=lab("memory", model=LLAMA, tab="timeline"),
        ),
    ),
    "train-bf16-spacing": (
        then(
            "Why are LoRA's A and B often kept in float32?",
            "So that small updates are not rounded away; and it costs next to nothing, because they are few. The "
            "product "
            "is then computed in bfloat16 like everything else.",
            src.PEFT, f"{src.MIXED}, section 3.1",
        ),
        then("What does pure bfloat16 save in full fine-tuning, then?", to="memory-pure-half"),
    ),
    "train-checkpointing-frozen": (
        then("What does checkpointing save here?", to="memory-checkpoints"),
        then(
            "With the non-reentrant variant, would the flag still be needed?",
            "No: that variant records the operations of a segment whether or not its inputs require a gradient, so "
            "adapters inside are found.",
            "PyTorch documentation, torch.utils.checkpoint",
            opens=lab("misconceptions", belief="predict-checkpointing"),
        ),
    ),
    "train-wrapped-twice": (
        then(
            "Does deleting the wrapper object help?",
            "No. The layers were put into the base itself, and deleting the wrapper leaves them there. `unload()` "
            "takes "
            "them out, or load the base again.",
            src.PEFT, src.RUN, opens=lab("misconceptions", belief="predict-wrapped-twice"),
        ),
        then("And which mistake makes the count too small?", to="train-misspelt"),
    ),
    "train-adalora": (
        then(
            "How would you notice within one epoch?",
            "Print the ranks, or the number of singular values that are not zero: after the warm-up they have to fall. "
            "If they stand still, the update is not called or its schedule never comes to allocation.",
            src.PEFT, f"{src.ADALORA}, section 3",
        ),
        then("For which observation would you have chosen it, or another variant?", to="choose-variants"),
    ),
}  # fmt: skip
