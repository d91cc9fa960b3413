"""What is asked after the questions on training."""

from __future__ import annotations

import math
from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import FORGETS_LESS, RATE, fact
from peft_lab.interview.calculations import training as calc
from peft_lab.interview.computed import Answer, Case, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    causal,
    followed,
    gated,
    give_way,
    hold,
    lab,
    then,
)
from peft_lab.models.shapes import ModelShape

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


# ----------------------------------------
# Questions on training with PEFT methods.


ask = partial(Question, topic="training", model=None)


def gated_causal(shape: ModelShape) -> bool:
    return causal(shape) and gated(shape)


_ASKED = (
    ask(
        id="train-steps", level="basic", kind="numeric", calculate=calc.steps,
        given={"rows": 10043, "batch": 32, "epochs": 3},
        question="{{rows}} examples, batches of {{batch}}, {{epochs}} epochs, the last batch of an epoch is kept. "
        "How many optimizer steps?",
        answer="{{value}}.",
        listen_for=("rounds up within each epoch",),
        wrong=("rounds down", "one epoch"),
        sources=("PyTorch documentation, torch.utils.data.DataLoader, drop_last", src.ALGEBRA),
    ),
    ask(
        id="train-effective-batch", level="basic", kind="numeric", calculate=calc.effective_batch,
        given={"each": 4, "accumulate": 8, "devices": 2},
        question="{{each}} examples per device, {{accumulate}} accumulation steps, {{devices}} devices. How many "
        "examples make one update?",
        answer="{{value}}.",
        listen_for=("product of the three", "accumulation saves activations, not time"),
        wrong=("forgets the devices",),
        sources=("Transformers documentation, Trainer, gradient accumulation", src.ALGEBRA),
    ),
    ask(
        id="train-warm-up", level="basic", kind="numeric", calculate=calc.warm_up,
        given={"total": 942, "percent": 3},
        question="Transformers' Trainer is to warm the learning rate up over {{percent}}% of {{total}} steps. How many "
        "steps does it take?",
        answer="{{value}}: it rounds up.",
        listen_for=("why warm-up: Adam's early estimates of the moments are poor",),
        wrong=("warm-up per epoch",),
        sources=("Transformers code, TrainingArguments.get_warmup_steps", f"{src.TRANSFORMER}, section 5.3"),
    ),
    ask(
        id="train-learning-rate", level="basic", kind="free",
        facts=(
            fact("full", RATE, (1e-6, 5e-5), live="no", kind="causal-lm"),
            fact(("lora", "qlora"), RATE, (5e-5, 1e-3), live="no", kind="causal-lm", objective="sft"),
            fact("ia3", RATE, (1e-3, 1e-2), live="no", kind=("causal-lm", "seq2seq")),
            fact("prompt", RATE, (1e-3, 0.3), live="no"),
        ),
        question="Why do PEFT methods use larger learning rates than full fine-tuning?",
        answer="Few parameters must produce the whole change, so each moves further, and there is little risk of "
        "wrecking pretrained weights because they are frozen. LoRA's product starts at zero, too. Full fine-tuning "
        "of a large language model uses 1e-5 to 5e-5, LoRA about ten times as much, 1e-4 to 5e-4, IA³ a few "
        "thousandths, and prompts from 1e-3 up to 0.3, by optimizer.",
        listen_for=(
            "Few parameters have to produce the whole change, so each has to move further.",
            "The frozen weights cannot be wrecked, so a large rate is less of a risk.",
            "They start at zero or from a fresh start, not from a trained optimum.",
            "The order of magnitude: full about 1e-5, LoRA about ten times as much or 1e-4 and up.",
        ),
        wrong=("keeps the old rate and blames the method", "'because gradients are larger in adapters'"),
        sources=(f"{src.LORA_REGRET}, Optimal learning rate and rank", src.BENCH, f"{src.PROMPT}, section 3"),
    ),
    ask(
        id="train-labelled-share", level="medium", kind="numeric", calculate=calc.labelled_share,
        given={"prompt": 200, "completion": 40},
        question="Examples have {{prompt}} tokens of prompt and {{completion}} of completion; the loss is taken on "
        "the completion. Which share of the tokens read counts in the loss?",
        answer="{{value}}. All tokens cost time, so short completions behind long prompts train slowly per second.",
        listen_for=("masked labels", "compute is paid for all tokens", "logits only needed for labelled positions"),
        wrong=("completion over prompt",),
        sources=("PyTorch documentation, torch.nn.CrossEntropyLoss, ignore_index", src.ALGEBRA, src.RUN),
    ),
    ask(
        id="train-padding", level="medium", kind="numeric", calculate=calc.padding,
        given={"lengths": (12, 40, 25, 64, 19, 33, 28, 51)},
        question="A batch holds sequences of {{lengths}} tokens, padded to the longest. Which share of the "
        "positions is padding?",
        answer="{{value}}. Sorting examples into batches by length takes most of that away.",
        listen_for=("longest times count as the denominator", "a remedy: length-sorted batches or packing"),
        wrong=("relative to the text instead of all positions",),
        sources=("Transformers documentation, padding and truncation", src.RUN, src.ALGEBRA),
    ),
    ask(
        id="train-first-gradient", level="medium", kind="choice", calculate=calc.first_gradient,
        options=("Both A and B", "A only", "B only", "Neither"),
        question="LoRA starts with A random and B zero. Which of the two receives a non-zero gradient in the very "
        "first step?",
        answer="{{value}}. The gradient of A contains B, which is zero; that of B contains A x. After one step B "
        "has moved and both learn.",
        listen_for=("writes the two gradients", "only for one step"),
        wrong=("A, because it is the one with values",),
        because=(
            "That a trainable matrix always gets a gradient. A's contains B, and B is zero.",
            "That the matrix with values in it is the one that learns. It is the other way round: each gradient "
            "contains the other matrix.",
            "That a gradient needs a matrix that is not zero. It needs the other one not to be.",
            "That a zero product stops everything. That is so only if both factors are zero.",
        ),
        sources=(src.ALGEBRA, f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="train-forgetting", level="medium", kind="free",
        facts=(fact("lora", FORGETS_LESS, "full"),),
        question="What is catastrophic forgetting, and does PEFT prevent it?",
        answer="Training on one task degrades what the model could do before. Freezing the base does not prevent "
        "it while the adapter is active: the function changes all the same. LoRA tends to forget less than full "
        "fine-tuning, mostly because it changes less; and the adapter can be switched off, which gives the base "
        "back exactly, unless it was merged or the base was changed.",
        listen_for=(
            "Training on one task degrades what the model could do before.",
            "Freezing the base does not prevent it while the adapter is active: the function changes all the same.",
            "LoRA tends to forget less than full fine-tuning.",
            "The adapter can be switched off, which gives the base back, unless it was merged.",
            "Test the old abilities as well.",
        ),
        wrong=("'weights are frozen, so nothing is forgotten'", "'LoRA forgets as much as full fine-tuning or more'"),
        sources=(f"{src.LEARNS_LESS}, section 4",),
    ),
    ask(
        id="train-head", level="medium", kind="free",
        question="Your classifier scores 92% in training; reloaded from its adapter it guesses. What happened?",
        answer="The classification head is new and was trained, but it is not part of the base, and unless it is "
        "among the modules to save it is not in the adapter's file. On loading a fresh random head is made. With a "
        "task type for sequence classification PEFT saves it; with own heads name them in `modules_to_save`.",
        listen_for=(
            "The head is new and trained, but it was not in the adapter's file.",
            "On loading a fresh random head is made.",
            "Name it in `modules_to_save`, or set the task type for sequence classification.",
            "Reload and compare the outputs before finishing.",
        ),
        wrong=("blames overfitting", "'the head was saved and the LoRA matrices were not'"),
        sources=(src.PEFT, src.RUN),
    ),
    ask(
        id="train-misspelt", level="medium", kind="free",
        question="A LoRA run on q and v behaves as if only q were adapted. No error was raised. What is your first "
        "suspicion?",
        answer="A misspelt or missing target name: PEFT accepts a list of targets as long as one of them matches "
        "and says nothing of the others. Print the modules that were replaced, and compare the number of trainable "
        "parameters with the formula. Names also differ between architectures.",
        listen_for=("partial matches pass silently", "verifies with count or module list"),
        wrong=("tunes the learning rate",),
        sources=(src.RUN, src.PEFT),
    ),
    ask(
        id="train-work-ratio", level="hard", kind="numeric", calculate=calc.work_ratio, model="llama-3.2-3b",
        fits=gated_causal, given={"r": 16},
        question="Count multiply-adds in linear maps only, output layer included, attention scores left aside: how "
        "much work is a LoRA step (rank {{r}} on every map of the layers) on {{model}}, as a percentage of a full "
        "fine-tuning step?",
        answer="{{value}}: the weight gradients of the frozen maps are not computed, everything else is. So LoRA "
        "saves about a third of the arithmetic, not nine tenths.",
        listen_for=(
            "forward, gradient for inputs, gradient for weights: equal thirds",
            "why fewer parameters do not mean proportionally faster",
        ),
        wrong=("the share of trained parameters",),
        sources=(f"{src.SCALING}, section 2.1", src.ALGEBRA),
    ),
    ask(
        id="train-bf16-spacing", level="hard", kind="numeric", calculate=calc.bf16_spacing,
        question="How far is the next bfloat16 number above 1? Why does it matter for training in pure bfloat16?",
        answer="{{value}}. An update smaller than half of that, {{lost}}, is rounded away when it is added to a "
        "weight of 1: weights stand still although gradients are fine. Hence float32 copies, float32 adapters, or "
        "stochastic rounding.",
        listen_for=("seven stored bits of significand", "relative, so small weights fare better", "a remedy"),
        wrong=("float16's spacing", "range instead of precision"),
        sources=(f"{src.MIXED}, section 3.1",),
    ),
    ask(
        id="train-checkpointing-frozen", level="hard", kind="free",
        question="You switch on gradient checkpointing for a LoRA run and get 'element 0 of tensors does not "
        "require grad'. Why, and what helps?",
        answer="Reentrant checkpointing only records a segment if one of its inputs requires a gradient. With a "
        "frozen embedding the first segment's input does not, so nothing is recorded, although adapters inside "
        "would need it. `enable_input_require_grads()` marks the embedding's output, or use the non-reentrant "
        "variant.",
        listen_for=(
            "Reentrant checkpointing records a segment only if one of its inputs requires a gradient.",
            "With a frozen embedding the first segment's input does not, so nothing is recorded.",
            "Call `enable_input_require_grads()`, so that the embedding's output requires a gradient.",
            "Or use the non-reentrant variant.",
        ),
        wrong=(
            "unfreezes the embedding for good", "'LoRA and checkpointing cannot be used together'",
            "'the reentrant variant is the way out'",
        ),
        sources=("PyTorch documentation, torch.utils.checkpoint", src.RUN),
    ),
    ask(
        id="train-wrapped-twice", level="hard", kind="free",
        question="In a notebook you call `get_peft_model` again on the same base with other targets. The trainable "
        "count is larger than the formula says. Explain.",
        answer="PEFT changes the base in place: the first call's layers are still in it, with their parameters "
        "still trainable. The second call adds its own. Start from a fresh base, or call `unload()` on the first "
        "before wrapping again. A comparison of settings run that way compares mixtures.",
        listen_for=("in-place change", "fresh base or unload", "checks counts against the formula"),
        wrong=("'the percentage is rounded'",),
        sources=(src.RUN, src.PEFT),
    ),
    ask(
        id="train-adalora", level="hard", kind="free",
        question="You train with AdaLoRA using your own loop, and the ranks never change. What did you forget, and "
        "what did you really train?",
        answer="AdaLoRA reallocates rank by importance in `update_and_allocate(step)`, which the loop must call "
        "after the update (and the total number of steps must be known to its schedule). Without it you trained "
        "LoRA in a singular-value form at the initial rank, with its orthogonality penalty.",
        listen_for=(
            "a hook that the loop has to call",
            "schedule: warm-up, allocation, final phase",
            "reads ranks at the end",
        ),
        wrong=("raises the target rank",),
        sources=(f"{src.ADALORA}, section 3", src.PEFT),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on training.


CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "train-learning-rate",
        "LoRA wants about ten times the rate of full fine-tuning.",
        "A higher rate destroys the pretrained weights. You should go lower.",
        "They are frozen. The whole change has to come from a few parameters, of which half start at zero; at the "
        "rate of "
        "full fine-tuning it hardly moves.",
        f"{src.LORA_REGRET}, Optimal learning rate and rank",
        opens=lab("misconceptions", belief="predict-learning-rate"),
    ),
    give_way(
        "train-forgetting",
        "The weights are frozen, so nothing can be forgotten.",
        "Do you run the model with the adapter or without it?",
        "With it, and then the function is another one: old abilities can get worse. It forgets less than full "
        "fine-tuning, and switching it off gives the base back. That is all.",
        f"{src.LEARNS_LESS}, section 4",
    ),
    hold(
        "train-work-ratio",
        "A LoRA step still has {{value}} of the arithmetic of a full one.",
        "You train less than a percent of the parameters. The work falls in proportion.",
        "Forward pass and gradient for the inputs go through every frozen map. Only the gradient for the weights is "
        "left out, about a third.",
        f"{src.SCALING}, section 2.1", src.ALGEBRA,
    ),
    give_way(
        "train-misspelt",
        "If a target were misspelt, PEFT would have raised an error.",
        "If all were. What if one of two is right?",
        "Then it says nothing: the right one is adapted and the other ignored. Compare the count with the formula, or "
        "print what was replaced.",
        src.PEFT, src.RUN, opens=lab("misconceptions", belief="predict-misspelt"),
    ),
    hold(
        "train-steps",
        "{{value}}.",
        "Examples times epochs through batch size, that is fewer.",
        "The last, smaller batch of each epoch is kept and makes a step of its own, so one rounds up in every epoch.",
        "PyTorch documentation, torch.utils.data.DataLoader, drop_last", src.ALGEBRA,
    ),
    hold(
        "train-checkpointing-frozen",
        "Nothing is recorded, because the first segment's input requires no gradient.",
        "The adapters inside require one, and that is what counts.",
        "Not in the reentrant variant: it looks at a segment's inputs only. Mark the embedding's output, or use the "
        "other variant.",
        "PyTorch documentation, torch.utils.checkpoint", src.RUN,
    ),
    give_way(
        "train-wrapped-twice",
        "I deleted the first wrapper, so the second run was on a fresh base.",
        "Where did the first call put its layers?",
        "Into the base itself. They are still there and trainable. Unload them, or load the base again; the count "
        "shows "
        "it.",
        src.PEFT, src.RUN, opens=lab("misconceptions", belief="predict-wrapped-twice"),
    ),
)  # fmt: skip
