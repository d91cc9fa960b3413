"""What was found about IA³ since its paper: its settings, its successor, and how few numbers can be enough."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.interview.question import lab
from peft_lab.interview.since import Discovery, printed, right, trained

DEFAULT = "ia3--llama-3.2-3B-default"
FASTER = "ia3--llama-3.2-3B-lr_0.001"
TUNED = "ia3--llama-3.2-3B-all-attn-5k-lr0.005"
VERA = "vera--llama-3.2-3B-default"
TINY = "tinylora--llama-3.2-3B-default"

SINCE = (
    Discovery(
        id="ia3-since-settings",
        title="Rate and places, then it comes near LoRA",
        found="In the published comparison IA³ gives {default} right answers as first set, {faster} at a higher rate, "
        "and {tuned} at a higher one still and on every map. LoRA gives {lora}.",
        follows="Its vectors are few: give them a high rate and all the places there are.",
        source=src.BENCH,
        place="rows of IA³",
        version="runs of July",
        dated=2026,
        figures={
            "default": right(DEFAULT),
            "faster": right(FASTER),
            "tuned": right(TUNED),
            "lora": right("lora--llama-3.2-3B-rank32"),
        },
        rows=(DEFAULT, FASTER, TUNED),
    ),
    Discovery(
        id="ia3-since-road",
        title="Turning in pairs",
        found="RoAd turns and scales outputs in pairs, where IA³ only scales them. It trains less than {share}% of the "
        "parameters, and rows of one batch can each have their own, for the cost of a product by entries.",
        follows="What IA³ started, cheap vectors for many users, goes on with one more degree of freedom.",
        source=src.ROAD,
        place="abstract",
        version="v2",
        figures={"share": printed("road-share")},
        opens=lab("atlas", type="road", beside="ia3"),
    ),
    Discovery(
        id="ia3-since-shared",
        title="Fewer numbers than vectors: frozen matrices with small cores",
        found="LoRA-XS trains a small square between frozen matrices from W's own SVD and stores over {smaller} times "
        "less than LoRA. VeRA scales random ones that all layers share: {many} parameters and {right} right answers "
        "in the published comparison.",
        follows="What is frozen can be made again from a seed or from W, so only the core is stored.",
        source=src.LORA_XS,
        place="abstract",
        version="v3",
        figures={"smaller": printed("lora-xs-smaller"), "many": trained(VERA), "right": right(VERA)},
        opens=lab("atlas", type="vera", beside="ia3"),
    ),
    Discovery(
        id="ia3-since-tiny",
        title="A handful of numbers, with rewards only",
        found="With reinforcement learning {count} trained numbers took Qwen to {accuracy}% on GSM8K. Supervised "
        "training needed updates at least {larger} times as large, and in the published comparison, which is "
        "supervised, TinyLoRA with {many} numbers gives {right} right answers.",
        follows="How few suffice depends on how much the data have to tell.",
        source=src.TINYLORA,
        place="abstract",
        version="v1",
        figures={
            "count": printed("tiny-parameters"),
            "accuracy": printed("tiny-accuracy"),
            "larger": printed("tiny-supervised-least"),
            "many": trained(TINY),
            "right": right(TINY),
        },
        rows=(TINY, "tinylora--llama-3.2-3B-weight-tying", VERA, DEFAULT),
    ),
)
