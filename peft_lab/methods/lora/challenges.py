"""Doubts about answers on LoRA."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "lora-query-value",
        "{{value}}.",
        "I multiply by twice the query map's share in every layer and get another number. Are you sure about yours?",
        "Look at the value map: it has {{v_out}} outputs, the query map {{q_out}}. Each is multiplied with what it "
        "has; "
        "only where both are equally wide does the short cut agree.",
        f"{src.GQA}, section 2", f"{src.LORA}, section 4.1",
        opens=lab("lora", model="llama-3.2-3b", r=16, tab="parameters"),
    ),
    hold(
        "lora-why-b-zero",
        "A is random and B is zero, so the first gradient goes to B alone.",
        "That cannot be: a matrix of zeros passes nothing on, so B learns nothing.",
        "The gradient of B is the outer product of the incoming gradient with A x. It contains A, not B, and A is not "
        "zero. It is A whose gradient contains B and vanishes, for one step.",
        src.ALGEBRA, src.RUN, opens=lab("misconceptions", belief="predict-first-gradient"),
    ),
    give_way(
        "lora-scale-drop",
        "I raised the rank and kept α. The result was no better, so rank does not matter on this task.",
        "What did α/r do to each direction, and was the rate tuned at both ranks?",
        "It made each count {{value}} times less, which takes back what more of them add in the first steps. Tune the "
        "rate at both ranks, or try α/√r, before you say that the rank does not matter.",
        f"{src.LORA}, section 4.1", f"{src.RSLORA}, section 3",
    ),
    give_way(
        "lora-why-low-rank",
        "LoRA works because the weight matrices of a pretrained model have low rank.",
        "Have you looked at their singular values?",
        "Weight matrices have high rank. The assumption is about their change: that adapting to a task needs few "
        "directions.",
        f"{src.LORA}, section 7.2", src.INTRINSIC,
    ),
    hold(
        "lora-tied-head",
        "With tied embeddings the merged model is not the one that was trained.",
        "Merging is exact up to rounding, whatever you adapt. Every textbook says so.",
        "It is exact for a matrix with one use. Here one matrix reads tokens and scores them; the adapter corrected "
        "the scoring only, and merging corrects both.",
        src.PEFT, src.RUN,
    ),
    hold(
        "lora-dora-extra",
        "DoRA adds the same {{value}} at any rank.",
        "DoRA doubles LoRA's parameters, everybody knows that.",
        "It adds one magnitude for each output of an adapted map. A and B are LoRA's own. What it costs is time, for "
        "the norms.",
        src.DORA, src.PEFT, opens=lab("lora", model="llama-3.2-3b", use_dora=True, tab="parameters"),
    ),
)  # fmt: skip
