"""Questions on training with PEFT methods."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import FORGETS_LESS, RATE, fact
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.calculations import training as calc
from peft_lab.quiz.fits import causal, gated
from peft_lab.quiz.follow_ups.training import FOLLOW_UPS
from peft_lab.quiz.question import Question, followed

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
