"""Doubts about answers on adapters."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold
from peft_lab.quiz.follow_up import lab

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "adapters-not-mergeable",
        "The nonlinearity is what prevents merging.",
        "No, it is the place: they stand between layers.",
        "A linear layer between two others could be multiplied out. It is the function between the adapter's two "
        "matrices that no matrix can stand for.",
        f"{src.HOULSBY}, section 2.1", src.ALGEBRA,
    ),
    give_way(
        "adapters-latency",
        "They add less than a percent of arithmetic, so the service cannot be slower for them.",
        "What does a GPU wait for at batch 1?",
        "For kernels to start and for memory, in sequence. Small steps that nothing overlaps with cost far more time "
        "than arithmetic. The LoRA paper measured 20 to 30% at batch 1.",
        f"{src.LORA}, section 3 and table 1",
    ),
    hold(
        "adapters-houlsby",
        "{{value}}: two per layer.",
        "One adapter per layer, so half of that.",
        "One is Pfeiffer's placement. Houlsby has one after attention and one after the feed-forward part.",
        f"{src.HOULSBY}, section 2.1", opens=lab("adapters", model="llama-3.2-3b", placement="houlsby"),
    ),
    give_way(
        "adapters-pfeiffer-share",
        "Adapters are one to four percent of a model.",
        "At which width, on which model?",
        "That is the point: without both the sentence means nothing. Here it is {{value}}.",
        f"{src.HOULSBY}, section 3", opens=lab("fact_check", claim="adapters-share"),
    ),
    hold(
        "adapters-adaption-prompt",
        "`AdaptionPromptConfig` is no bottleneck adapter.",
        "It says adapter in the paper's title. Of course it is one.",
        "It is LLaMA-Adapter: learnt prompts in the upper layers' attention behind a gate. There is no bottleneck in "
        "it. "
        "Look at the modules, not at the name.",
        src.PEFT, opens=lab("fact_check", claim="adapters-snippet"),
    ),
)  # fmt: skip
