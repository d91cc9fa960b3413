"""Doubts about answers on serving."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "serve-merged-or-not",
        "I always merge, then there is only one model to serve.",
        "You have a hundred tasks. How many models are that?",
        "A hundred, each at full size. Merging is for one task that has the machine for itself; many tasks share a "
        "base "
        "and keep their adapters apart.",
        f"{src.LORA}, section 4.1", src.SLORA,
    ),
    hold(
        "serve-heterogeneous",
        "Requests for different adapters can share one batch.",
        "Each request needs other weights, so you have to run them one after the other.",
        "They share W, and that product is made once for all. Only the small corrections differ, and gathered kernels "
        "compute those by row.",
        f"{src.PUNICA}, section 4", f"{src.SLORA}, section 5",
    ),
    hold(
        "serve-merge-low-precision",
        "A difference of about a percent after merging in bfloat16 is no bug.",
        "Merging is exact. Find your mistake.",
        "It is exact on paper. The sum of a small ΔW and a larger W is rounded to bfloat16's eight significant bits, "
        "and "
        "part of ΔW is lost. In float32 the same merge differs by a millionth.",
        src.RUN, opens=lab("misconceptions", belief="predict-merge-precision"),
    ),
    give_way(
        "serve-which-merge",
        "All PEFT methods are free at inference once they are trained.",
        "Prompts as well?",
        "No. Prompt and prefix methods keep their tokens in every request, adapters stay as layers. Only what merges, "
        "or "
        "changes what is there, is free.",
        f"{src.LORA}, sections 3 and 4.1", opens=lab("fact_check", claim="leaf-no-overhead"),
    ),
    hold(
        "serve-many-tasks",
        "{{value}}.",
        "A hundred tasks are a hundred models. Multiply the base.",
        "They share one base; each adds its A and B only. Full copies would take {{times}} times as much.",
        f"{src.LORA}, section 4.2",
    ),
    give_way(
        "serve-base-version",
        "Its file is intact, so it must be undertrained. I train again.",
        "On which revision of the base is it being served?",
        "That is to be checked first: an adapter is a difference to one exact base, with its tokenizer and template. "
        "Training again on a wrong base would repeat the fault.",
        src.PEFT, src.RUN,
    ),
)  # fmt: skip
