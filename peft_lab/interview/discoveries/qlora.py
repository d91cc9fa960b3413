"""What was found about QLoRA since its paper: several devices, other corrections of a 4-bit base, and serving it."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.interview.question import lab
from peft_lab.interview.since import Discovery, printed

SINCE = (
    Discovery(
        id="qlora-since-sharded",
        title="Sharding needs weights stored as floats",
        found="FSDP shards floating-point numbers only, and packed weights of four bits are integers. bitsandbytes can "
        "store the same bits in a floating-point type, so that FSDP splits them like all others.",
        follows="On several devices set `bnb_4bit_quant_storage` to the type of all other weights.",
        source=src.BNB_FSDP,
        place="Quantized data storage",
        version="0.50",
        dated=2026,
        opens=lab("plan", model="llama-3.1-70b", devices=2),
    ),
    Discovery(
        id="qlora-since-qdora",
        title="QDoRA",
        found="DoRA on a quantised base was shown to shard like QLoRA, and in first experiments on continued "
        "pretraining to be as accurate as training all weights.",
        follows="Any correction that leaves W alone can sit on a 4-bit base. Compare what DoRA trains besides LoRA.",
        source=src.QDORA,
        place="Introduction",
        version="2024-04-22",
        opens=lab("atlas", type="dora", beside="lora"),
    ),
    Discovery(
        id="qlora-since-qoft",
        title="Turning a quantised base instead of adding to it",
        found="OFTv2 turns the input instead of the matrix: training became up to {faster} times faster with up to "
        "{memory} times less memory than OFT. On quantised bases it was steadier and took less memory than QLoRA.",
        follows="Low rank is not the only correction that fits on four bits.",
        source=src.OFT2,
        place="abstract",
        version="v2",
        figures={"faster": printed("oft2-faster"), "memory": printed("oft2-memory")},
        opens=lab("atlas", type="oft", can=("on_4bit",)),
    ),
    Discovery(
        id="qlora-since-eora",
        title="Winning back what rounding lost, without training",
        found="EoRA computes low-rank matrices from the rounding error and a few inputs, with no gradient. On Llama in "
        "three bits it won back {gained}% on GSM8K.",
        follows="Part of what an adapter learns on a rounded base only repairs the rounding. How much a base loses "
        "before any training can be measured.",
        source=src.EORA,
        place="abstract",
        version="v5",
        figures={"gained": printed("eora-gsm8k")},
        experiment="qlora-types",
    ),
    Discovery(
        id="qlora-since-serving",
        title="Servers read four bits",
        found="vLLM loads models that bitsandbytes has quantised, or quantises them while loading.",
        follows="The base can be served as it was trained on, with the adapter beside it. Four bits save memory, not "
        "time.",
        source=src.VLLM_BNB,
        place="BitsAndBytes",
        version="latest",
        dated=2026,
        opens=lab("fact_check", claim="qlora-overhead"),
    ),
)
