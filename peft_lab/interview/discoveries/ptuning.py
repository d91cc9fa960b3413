"""What was found about P-Tuning since its papers: why its encoder helps, and what prompts in every layer became."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.core.facts import SERVED, fact
from peft_lab.interview.question import lab
from peft_lab.interview.since import Discovery, printed, right, trained

ENCODER = "ptuning--llama-3.2-3B-default"
PLAIN = "prompt_tuning--llama-3.2-3B-sample_vocab-lr_0.001"

SINCE = (
    Discovery(
        id="ptuning-since-encoder",
        title="Why an encoder helps",
        found="Making all tokens with one network gives them a shared structure. For prefixes that was shown to need "
        "fewer examples, and prompts were found to gain in a similar way.",
        follows="The encoder is a way to train, not a part of the result.",
        source=src.SHARED_PREFIX,
        place="abstract",
        version="v5",
        experiment="ptuning-shared",
        expects=True,
    ),
    Discovery(
        id="ptuning-since-rows",
        title="Near a well started prompt",
        found="In the published comparison P-Tuning trains {many} parameters and gives {right} right answers; a plain "
        "prompt that starts from words trains {few} and gives {plain}.",
        follows="A good start can do what the encoder does.",
        source=src.BENCH,
        place="rows of P-Tuning and prompt tuning",
        version="runs of July",
        dated=2026,
        figures={
            "many": trained(ENCODER),
            "right": right(ENCODER),
            "few": trained(PLAIN),
            "plain": right(PLAIN),
        },
        rows=(ENCODER, PLAIN),
    ),
    Discovery(
        id="ptuning-since-deep",
        title="Prompts in every layer hold documents now",
        found="Trained keys and values in every layer, which version two has and Prefix Tuning too, are now also "
        "trained to stand for a document, with {memory} times less memory than the document in the context.",
        follows="Version two is the branch that lives on.",
        source=src.CARTRIDGES,
        place="abstract",
        version="v3",
        figures={"memory": printed("cartridge-memory")},
        experiment="ptuning-deep",
    ),
    Discovery(
        id="ptuning-since-servers",
        title="Servers took soft prompts out",
        found="vLLM could serve many soft prompts on one base, and removed it again; adapters of LoRA stayed.",
        follows="What is stored is a soft prompt: plan how it will be served.",
        source=src.VLLM_PROMPTS,
        place="description",
        version="merged 2025",
        opens=lab("choose", tasks=20, serving="vllm"),
        facts=(fact("ptuning", SERVED, "vllm", "never"),),
    ),
)
