"""What was found about Prompt Tuning since its paper: settings, servers, and what is trained instead."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.core.facts import LENGTHENS, SERVED, fact
from peft_lab.interview.question import lab
from peft_lab.interview.since import Discovery, right, trained

DEFAULT = "prompt_tuning--llama-3.2-3B-default"
FASTER = "prompt_tuning--llama-3.2-3B-lr_0.001"
WORDS = "prompt_tuning--llama-3.2-3B-sample_vocab-lr_0.001"
TOKENS = "trainable_tokens--llama-3.2-3B-sos+eos"

SINCE = (
    Discovery(
        id="prompt-since-settings",
        title="The same method, from useless to usable",
        found="In the published comparison one prompt gives {default} right answers as it was first set, {faster} at "
        "ten times the rate, and {words} when it also starts from words.",
        follows="A bad result says more about the settings than about the method.",
        source=src.BENCH,
        place="rows of prompt tuning",
        version="runs of July",
        dated=2026,
        figures={"default": right(DEFAULT), "faster": right(FASTER), "words": right(WORDS)},
        rows=(DEFAULT, FASTER, WORDS),
    ),
    Discovery(
        id="prompt-since-servers",
        title="Servers took it out",
        found="vLLM could serve many soft prompts on one base, and removed it again; adapters of LoRA stayed.",
        follows="If many adapters have to share a server, ask which kinds it takes before you train.",
        source=src.VLLM_PROMPTS,
        place="description",
        version="merged 2025",
        opens=lab("choose", tasks=20, serving="vllm"),
        facts=(fact("prompt", SERVED, "vllm", "never"),),
    ),
    Discovery(
        id="prompt-since-caching",
        title="Written prompts became cheap",
        found="Services keep the keys and values of a prompt's beginning and reuse them for every request that begins "
        "the same; cached tokens cost less.",
        follows="A long written prompt may now be cheap enough. A soft prompt still lengthens every request.",
        source=src.CACHED_PROMPTS,
        place="What is the prompt cache?",
        version="latest",
        dated=2026,
        opens=lab("fact_check", claim="prompt-free"),
        facts=(fact("prompt", LENGTHENS),),
    ),
    Discovery(
        id="prompt-since-cpt",
        title="Examples as the prompt",
        found="CPT starts the soft prompt from worked examples and lets each token move only a little, which keeps a "
        "few-shot training from overfitting.",
        follows="With a handful of rows, start from them instead of from noise.",
        source=src.CPT,
        place="abstract",
        version="v1",
        opens=lab("atlas", type="cpt", beside="prompt_tuning"),
    ),
    Discovery(
        id="prompt-since-tokens",
        title="Training chosen words instead of new ones",
        found="PEFT can train chosen rows of the embedding and nothing else. In the published comparison the marks of "
        "beginning and end alone, {many} parameters, give {right} right answers.",
        follows="For new tokens, train their rows, alone or beside LoRA, instead of the whole embedding.",
        source=src.BENCH,
        place="row of trainable tokens",
        version="runs of July",
        dated=2026,
        figures={"many": trained(TOKENS), "right": right(TOKENS)},
        opens=lab("atlas", type="trainable_tokens", beside="prompt_tuning"),
    ),
)
