"""What was found about Prefix Tuning since its paper: where it starts, what it cannot do, and what became of it."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.core.facts import SERVED, fact
from peft_lab.interview.question import lab
from peft_lab.interview.since import Discovery, printed, right

RANDOM = "prefixtuning--llama-3.2-3B-lr_0.001"
ZERO = "prefixtuning--llama-3.2-3B-lr_0.005_zero_init"
TEXT = "prefixtuning--llama-3.2-3B-tokens50-init_prefix-lr_0.005"

SINCE = (
    Discovery(
        id="prefix-since-start",
        title="A real text to start from",
        found="In the published comparison a prefix gives {random} right answers from random numbers, {zero} from "
        "zeros, and {text} from the keys and values of a text. The learning rates differ too.",
        follows="Set the start and the rate before you judge the method.",
        source=src.BENCH,
        place="rows of prefix tuning",
        version="runs of July",
        dated=2026,
        figures={"random": right(RANDOM), "zero": right(ZERO), "text": right(TEXT)},
        rows=(RANDOM, ZERO, TEXT),
    ),
    Discovery(
        id="prefix-since-cartridges",
        title="A prefix in place of a long document",
        found="A prefix trained on conversations about a document, called a cartridge, answers as well as the model "
        "with the whole document in its context, and takes {memory} times less memory.",
        follows="Prefixes found a new job: they hold a text, not a task.",
        source=src.CARTRIDGES,
        place="abstract",
        version="v3",
        figures={"memory": printed("cartridge-memory")},
        opens=lab("atlas", type="cartridge", beside="prefix_tuning"),
    ),
    Discovery(
        id="prefix-since-limit",
        title="It cannot rearrange attention",
        found="A prefix cannot change how attention is shared among the text's own tokens; it can only add a fixed "
        "direction to what attention gives. So it brings out what a model can do, and may not teach it what needs new "
        "patterns of attention.",
        follows="Take it for style and for tasks that the model nearly does, not for new ones.",
        source=src.WHEN_PREFIX,
        place="abstract",
        version="v2",
        opens=lab("prefix", tab="look inside"),
    ),
    Discovery(
        id="prefix-since-tradeoff",
        title="Prefix and text compete",
        found="On modern models Prefix Tuning fell behind because inside a head the prefix and the text share one "
        "attention: what one gets the other loses. Moving the prefix out of the head brought it level with LoRA.",
        follows="Watch how much attention the prefix takes. More is not better.",
        source=src.PREFIX_PLUS,
        place="abstract",
        version="v2",
        experiment="prefix-start",
    ),
    Discovery(
        id="prefix-since-projection",
        title="The projection is more than a trick",
        found="The MLP that makes the prefix ties keys and values together, and such a shared structure was shown to "
        "need fewer examples.",
        follows="It costs nothing in the file: only its output is stored.",
        source=src.SHARED_PREFIX,
        place="abstract",
        version="v5",
        experiment="prefix-projection",
        facts=(fact("prefix", SERVED, "vllm", "never"),),
    ),
)
