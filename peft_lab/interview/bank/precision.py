"""Questions on runs that fail for lack of range: float16, its scaler, and gradients in the wrong type."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import debugging as calc
from peft_lab.interview.question import Question, then

TROUBLE = f"{src.PEFT}, Troubleshooting"
EMPTY = "huggingface/accelerate issue 3508, huggingface/trl issue 4416 and huggingface/peft issue 2450"
ask = partial(Question, topic="debugging", model=None)

QUESTIONS = (
    ask(
        id="debug-largest-half", level="basic", kind="numeric", calculate=calc.largest_half,
        question="What is the largest number that float16 can hold, above which activations become infinite?",
        answer="{{value}}. bfloat16 has float32's range and does not overflow there: models trained in bfloat16 may "
        "have activations that float16 cannot hold, and then the loss is NaN from the first step.",
        listen_for=("range against precision", "remedy: bfloat16, or float32 for the part that overflows"),
        wrong=("65,536", "the same as bfloat16"),
        follow_ups=(
            then(
                "How do you see where it overflows?",
                "Forward hooks that report the first module whose output is not finite, on one batch.",
                "PyTorch documentation, register_forward_hook",
            ),
            then(
                "What does a loss scaler do about it?",
                "Nothing: it protects small gradients from vanishing. Overflow in the forward pass is beyond it.",
                f"{src.MIXED}, section 3.2",
            ),
        ),
        sources=("PyTorch, torch.finfo(torch.float16)", f"{src.MIXED}, section 3"),
    ),
    ask(
        id="debug-unscale", level="medium", kind="free",
        question="'ValueError: Attempting to unscale FP16 gradients.' What was loaded how, and which two ways out "
        "are there?",
        answer="The model was loaded in float16 and trained with automatic mixed precision in float16, so the "
        "trained parameters, the adapter's too, are float16. Mixed precision wants trainable weights in float32: "
        "the scaler has to divide their gradients without losing them. Cast the trainable parameters to float32 "
        "(`cast_mixed_precision_params` does it), the frozen base may stay in float16; or train in bfloat16, which "
        "needs no scaler. PEFT casts float16 and bfloat16 adapters to float32 by default when it adds them, so look "
        "for code that cast them back.",
        listen_for=(
            "The trained parameters were in float16, while training with float16 mixed precision.",
            "The gradient scaler wants the trained weights, and so their gradients, in float32.",
            "Way out: cast the trainable parameters to float32.", "Way out: train in bfloat16, which needs no scaler.",
        ),
        wrong=("switches off mixed precision and keeps float16 everywhere", "'the model was loaded in float32'"),
        follow_ups=(
            then(
                "What happens if everything is pure float16 without a scaler?",
                "Small gradients vanish and small updates are rounded away; the loss stalls or turns NaN.",
                f"{src.MIXED}, section 3",
            ),
            then("Does the cast cost memory?", "Only for the adapter: a few dozen megabytes.", TROUBLE, src.ALGEBRA),
        ),
        sources=(TROUBLE,),
    ),
    ask(
        id="debug-scaler", level="medium", kind="numeric", calculate=calc.scaler, given={"overflows": 6},
        question="PyTorch's gradient scaler starts at 65,536. The first {{overflows}} steps overflow. What is the "
        "scale then, and what did these steps train?",
        answer="{{value}}, and nothing: a step with infinite gradients is skipped. A few at the start are normal; "
        "if the scale keeps falling the forward pass itself is broken.",
        listen_for=(
            "halves at each overflow",
            "skipped steps still count in some schedules",
            "a falling scale is a symptom",
        ),
        wrong=("it stays", "the steps were taken with clipped gradients"),
        follow_ups=(
            then(
                "When does it rise again?",
                "It doubles after two thousand steps in a row without overflow, by default.",
                "PyTorch, torch.amp.GradScaler",
            ),
            then(
                "Does bfloat16 need one?",
                "No: its range is that of float32, so gradients do not vanish for lack of range.",
                f"{src.MIXED}, section 3.2",
                "PyTorch, torch.finfo(torch.bfloat16)",
            ),
        ),
        sources=("PyTorch, torch.amp.GradScaler", f"{src.MIXED}, section 3.2"),
    ),
)  # fmt: skip
