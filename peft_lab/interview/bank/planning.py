"""Questions on planning a job: what it takes in tokens, hours and money, and whether it pays."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import planning as calc
from peft_lab.interview.question import Question, any_model, gated, lab, then
from peft_lab.models.shapes import ModelShape

MODEL = "llama-3.1-8b"
WORK = f"{src.SCALING}, section 2.1"
PEAK = src.PALM
ask = partial(Question, topic="planning", model=None)


def of_one_card(shape: ModelShape) -> bool:
    """Models for which the measured rate of the question is a plausible one."""
    return 3e9 <= shape.total <= 9e9


QUESTIONS = (
    ask(
        id="plan-tokens", level="basic", kind="numeric", calculate=calc.tokens,
        given={"rows": 20_000, "mean": 600, "epochs": 2},
        question="{{rows}} examples of {{mean}} tokens on average, {{epochs}} epochs. How many tokens does the run "
        "go through?",
        answer="{{value}}. Everything else follows from it: operations, hours, money, and whether LoRA's rank can "
        "hold what is new in it.",
        listen_for=("tokens, not rows", "padding counts for time, not for learning"),
        wrong=("rows times epochs",),
        follow_ups=(
            then(
                "Do padded positions count?",
                "For time yes, for learning no. Sort by length or pack, and then the two agree.",
                f"{src.TRL}, Reducing memory usage, Packing",
            ),
            then("How do you get from tokens to hours?", to="plan-hours"),
        ),
        sources=(src.ALGEBRA, WORK),
    ),
    ask(
        id="plan-full-work", level="basic", kind="numeric", calculate=calc.full_work, model=MODEL, fits=any_model,
        given={"corpus": 24_000_000},
        question="How many operations does full fine-tuning of {{model}} ({{total}} parameters) on {{corpus}} "
        "tokens take, in petaFLOP, by the rule of six per weight and token?",
        answer="{{value}}; with LoRA about {{lora}}, since frozen weights need no gradients of their own.",
        listen_for=("two forward, four backward", "attention's scores are left aside", "two thirds for LoRA"),
        wrong=("two per weight and token",),
        follow_ups=(
            then(
                "When is the rule off?",
                "With long rows, where attention's scores add up; with large vocabularies beside small bodies; and "
                "with checkpointing, which repeats the forward pass.",
                WORK,
                f"{src.CHECKPOINTING}, section 4",
            ),
            then("Why only a third less with LoRA?", to="train-work-ratio"),
        ),
        sources=(WORK,),
    ),
    ask(
        id="plan-hours", level="medium", kind="numeric", calculate=calc.hours, model=MODEL, fits=any_model,
        given={"corpus": 24_000_000, "peak": 312, "percent": 40},
        question="LoRA on {{model}} ({{total}} parameters), {{corpus}} tokens, one card with a peak of {{peak}} "
        "teraFLOP per second of which {{percent}}% are reached. How many hours, at four operations per weight and "
        "token?",
        answer="{{value}}. Add checkpointing (a forward pass more), evaluation and loading, and say which share of "
        "the peak you assume and why.",
        listen_for=(
            "four per weight and token for LoRA",
            "a share of the peak from experience",
            "names what is left out",
        ),
        wrong=("takes the peak", "six per weight and token"),
        follow_ups=(
            then(
                "Where does a share of the peak come from?",
                "From a run: tokens per second times operations per token over the peak. PaLM reports 46.2% for its "
                "pretraining; small batches and short rows stay far below.",
                PEAK,
                opens=lab("memory"),
            ),
            then(
                "And for QLoRA?",
                "The same products, but every weight is dequantised first, forward and backward: slower, by a "
                "factor that must be measured.",
                f"{src.QLORA}, section 3",
            ),
        ),
        sources=(WORK, PEAK, src.DATA_SHEETS),
    ),
    ask(
        id="plan-money", level="basic", kind="numeric", calculate=calc.money,
        given={"length_hours": 12, "cards": 4, "price": 2.5},
        question="A run takes {{length_hours}} hours on {{cards}} cards at {{price}} dollars per card and hour. "
        "What does it cost?",
        answer="{{value}}. With three seeds {{seeds}}; with a sweep of rates more. The first run is rarely the last.",
        listen_for=("cards times hours", "plans for sweeps and seeds", "idle time is paid, too"),
        wrong=("hours times price",),
        follow_ups=(
            then(
                "What would you cut first?",
                "Sweep on a tenth of the data with short runs, and stop rates that are clearly behind; keep the "
                "full length for the best two.",
                src.ALGEBRA,
            ),
            then(
                "Is a faster card at twice the price dearer?",
                "Only if it is less than twice as fast on this job. Measure tokens per second and dollar.",
                src.ALGEBRA,
            ),
        ),
        sources=(src.ALGEBRA, src.FEW_SAMPLE),
    ),
    ask(
        id="plan-measured", level="medium", kind="numeric", calculate=calc.measured,
        given={"corpus": 24_000_000, "epochs": 2, "per_second": 4_000},
        question="Fifty steps on the card at hand ran at {{per_second}} tokens per second. How many hours will "
        "{{epochs}} epochs of {{corpus}} tokens each take?",
        answer="{{value}}. A measured rate beats any formula, if it was taken on rows of the real lengths, after "
        "the first steps, with evaluation and saving added.",
        listen_for=("steady state, real lengths", "evaluation, saving, and loading on top"),
        wrong=("uses the rate of the first steps",),
        follow_ups=(
            then(
                "Why leave out the first steps?",
                "They compile, allocate and fill caches, and a warm-up of the input pipeline is in them.",
                src.RUN,
            ),
            then("How do you turn the rate into a share of the peak?", to="plan-utilisation"),
        ),
        sources=(src.ALGEBRA, PEAK),
    ),
    ask(
        id="plan-utilisation", level="hard", kind="numeric", calculate=calc.utilisation, model=MODEL,
        fits=of_one_card, given={"per_second": 4_000, "peak": 312},
        question="LoRA on {{model}} ({{total}} parameters) runs at {{per_second}} tokens per second without "
        "checkpointing on a card with a peak of {{peak}} teraFLOP per second. Which share of the peak is that, "
        "attention's scores aside?",
        answer="{{value}}: {{multiply}} weights are multiplied with, as an input embedding with a table of its own is "
        "only looked up. Use four operations per weight and token: with six you would claim work that was never "
        "done.",
        listen_for=(
            "four, since frozen weights have no gradients",
            "a table that is looked up does no arithmetic",
            "recomputation is not counted as useful work",
        ),
        wrong=("six per weight and token", "compares with the sparse peak of the data sheet"),
        follow_ups=(
            then(
                "The share is low. What do you look at first?",
                "Whether the card waits: for data, for tiny kernels (short rows, small batch, many adapters), or "
                "for memory. A profile of ten steps tells.",
                "PyTorch documentation, torch.profiler",
                src.ALGEBRA,
            ),
            then(
                "Data sheets show twice that peak. Why?",
                "They print the figure with sparsity. The dense one counts.",
                src.DATA_SHEETS,
            ),
        ),
        sources=(PEAK, WORK, src.DATA_SHEETS),
    ),
    ask(
        id="plan-which-card", level="medium", kind="choice", calculate=calc.card, model="llama-3.1-70b", fits=gated,
        given={"r": 16},
        options=("24 GB", "48 GB", "80 GB", "None of these"),
        because=(
            "Below about half a byte a parameter nothing fits.",
            "Half a byte a parameter plus embeddings in 16 bits decides.",
            "Counts 16-bit embeddings twice, or weights in 8 bits.",
            "Counts the base in 16 bits.",
        ),
        question="QLoRA of rank {{r}} on every linear map of {{model}}, NF4 with double quantisation, embeddings "
        "and output layer in 16 bits, adapter with gradients and moments in float32. Which is the first card "
        "(decimal gigabytes) that holds weights and states, activations aside?",
        answer="{{value}}: {{need}} GB before any activation.",
        listen_for=("weights in 4 bits plus the 16-bit rest", "states are small", "then asks for the row length"),
        wrong=("counts parameters in 16 bits",),
        follow_ups=(
            then(
                "How much room do activations need?",
                "With checkpointing the layers' inputs, one layer unfolded, and the logits: linear in tokens per "
                "step. Simulate the step before renting.",
                f"{src.CHECKPOINTING}, section 4",
                opens=lab("memory"),
            ),
            then("And if it fits on two smaller cards?", to="qlora-shard-plan"),
        ),
        sources=(f"{src.QLORA}, section 3", f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="plan-worth-it", level="medium", kind="numeric", calculate=calc.worth_it,
        given={"dollars": 60, "saved": 1_500, "price": 0.15},
        question="A prompt with examples costs {{saved}} tokens in each request at {{price}} dollars per million. "
        "Tuning for {{dollars}} dollars makes them unnecessary. After how many requests has it paid, if serving "
        "costs the same per token?",
        answer="{{value}}. That leaves out what decides more often: labelling, evaluation, an adapter to serve, "
        "tuning again with each new base, and that a cached prefix is cheaper than its tokens.",
        listen_for=("saved tokens times price", "costs beside the card", "prefix caching changes the sum"),
        wrong=("compares training cost with one request",),
        follow_ups=(
            then(
                "Which reasons beat money?",
                "Latency, context room, quality that prompting does not reach, and a format that must not fail.",
                src.RETRIEVAL,
                src.ALGEBRA,
            ),
            then(
                "Which speak against tuning although it pays?",
                "Facts that change weekly, few labelled examples, and a base that will be replaced soon.",
                f"{src.NEW_KNOWLEDGE}, abstract",
                src.ALGEBRA,
            ),
        ),
        sources=(src.ALGEBRA, f"{src.PEFT}, LoRA, Activated LoRA (aLoRA)"),
    ),
    ask(
        id="plan-first-day", level="hard", kind="free",
        question="You have one card, one day and 5,000 labelled examples. Lay out the day for a LoRA job that has "
        "to be in production next week.",
        answer="First hour: a baseline, that is the base model with a good prompt on held-out examples, and the "
        "metric that will decide. Then data: look at fifty rows as token ids with labels, check template and end "
        "token, cut a test set by source, remove duplicates. Overfit ten rows to prove the wiring. Fifty steps for "
        "memory and rate, which gives the hours. Three rates around ten times the full rate on a fifth of the data, "
        "all linear maps, rank 16, batch at most 32. One full run at the best rate, two seeds if time allows. "
        "Reload in a fresh process, compare with the end of training, test forgetting and refusals. Keep config, "
        "data hash, base revision.",
        listen_for=(
            "baseline and metric first",
            "overfits a few rows",
            "sweeps the rate before rank or method",
            "reload test",
            "forgetting and safety checks",
        ),
        wrong=("starts with a sweep over methods", "no test set"),
        follow_ups=(
            then(
                "What do you drop if you have three hours?",
                "The seeds and the sweep down to two rates. Never the baseline, the look at the labels and the "
                "reload.",
                src.ALGEBRA,
            ),
            then(
                "Which numbers do you report?",
                "Baseline and tuned with intervals over the test rows, the spread over seeds, tokens, hours, "
                "memory, and what got worse.",
                src.FEW_SAMPLE,
            ),
        ),
        sources=(
            f"{src.LORA_REGRET}, Optimal learning rates for LoRA vs. FullFT",
            src.FEW_SAMPLE,
            f"{src.PEFT}, Troubleshooting",
        ),
    ),
)  # fmt: skip
