"""What was found about adapters since their papers: adding several, serving them, and where the nonlinearity went."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.core.facts import MERGES, SERVED, fact
from peft_lab.interview.question import lab
from peft_lab.interview.since import Discovery, right

NETWORK = "peanut--llama-3.2-3B-rank32-relu-depth0-s2.0"
LORA = "lora--llama-3.2-3B-rank32"
SLOW = "adaptionprompt--llama-3.2-3B-lr_0.0005"
FAST = "adaptionprompt--llama-3.2-3B-lr_5e-3"

SINCE = (
    Discovery(
        id="adapters-since-composition",
        title="Skills are added as LoRAs",
        found="For tasks that need two skills, joining two LoRAs that were trained apart, each with a weight, beat "
        "other ways of merging, and training on both data sets mixed.",
        follows="A bottleneck has no ΔW to add, so adapters are stacked or fused instead. Add two LoRAs of your own.",
        source=src.SOUPS,
        place="abstract",
        version="v2",
        opens=lab("lora", tab="look inside"),
        facts=(fact("adapters", MERGES, "", "never"),),
    ),
    Discovery(
        id="adapters-since-servers",
        title="No server, and a library behind its base",
        found="The adapters library goes on, with stacking, fusing and merging, but its newest release is built for an "
        "older transformers than the newest.",
        follows="Their old promise, many tasks on one base in one server, is kept by LoRA now.",
        source=src.ADAPTERS_LIBRARY,
        place="release notes",
        version="1.3.0",
        opens=lab("fact_check", claim="leaf-many-tasks"),
        facts=(fact("adapters", SERVED, "vllm", "never"),),
    ),
    Discovery(
        id="adapters-since-weights",
        title="A network that reads W, not h",
        found="PEANuT keeps the nonlinearity and moves it: its small network reads the weights, so what it makes is a "
        "ΔW that can be merged. In the published comparison it gives {network} right answers, LoRA {lora}.",
        follows="It is the input, not the nonlinearity, that keeps a bottleneck from being merged.",
        source=src.BENCH,
        place="rows of PEANuT and LoRA",
        version="runs of July",
        dated=2026,
        figures={"network": right(NETWORK), "lora": right(LORA)},
        opens=lab("atlas", type="peanut", beside="lora"),
    ),
    Discovery(
        id="adapters-since-prompts",
        title="The adapter in PEFT that is none",
        found="PEFT's type with adapter in its name, LLaMA-Adapter, is gated prompts. The published comparison gives "
        "{slow} right answers for it at a low rate and {fast} at ten times that.",
        follows="Read what a type does, not what it is called, and look at its rate.",
        source=src.BENCH,
        place="rows of adaption prompts",
        version="runs of July",
        dated=2026,
        figures={"slow": right(SLOW), "fast": right(FAST)},
        rows=(SLOW, FAST),
    ),
)
