"""What was found about BitFit since its paper: which models still have biases, and which bias is worth training."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.core.facts import RUNS, fact
from peft_lab.interview.question import lab
from peft_lab.interview.since import Discovery, right, trained
from peft_lab.models.catalogue import catalogue

VALUE = "beft--llama-3.2-3B-target-v_proj"
HAS_SOME = "qwen2.5-7b"


def _without() -> str:
    return str(sum(not tuple(entry.shape.biases) for entry in catalogue().values()))


SINCE = (
    Discovery(
        id="bitfit-since-none",
        title="The biases went away",
        found="Newer language models leave biases out: the Qwen models had them on queries, keys and values until the "
        "third generation removed them. Of the {all} models listed here {without} have none.",
        follows="Look whether your model has biases before you plan with BitFit.",
        source=src.QWEN3,
        place="architecture",
        version="May 2025",
        figures={"all": lambda: str(len(catalogue())), "without": _without},
        opens=lab("bitfit", model=HAS_SOME, tab="parameters"),
        facts=(fact("bitfit", RUNS, "any model", "never", biases="no"),),
    ),
    Discovery(
        id="bitfit-since-value",
        title="The value's bias above all",
        found="BEFT trained the biases of query, key and value one by one: with little data the value's alone "
        "generally did best, also in models that had none and were given one. In the published comparison it trains "
        "{many} numbers and gives {right} right answers.",
        follows="A bias can be added where there is none, at the value map first.",
        source=src.BEFT,
        place="abstract",
        version="v2",
        figures={"many": trained(VALUE), "right": right(VALUE)},
        opens=lab("atlas", type="beft"),
    ),
    Discovery(
        id="bitfit-since-kinds",
        title="Which biases matter depends on the model",
        found="The paper's smaller choice, the query's bias and that of the widening map, is not what BEFT found best, "
        "which is the value's.",
        follows="Try it on the model at hand: two kinds of bias against all.",
        source=src.BEFT,
        place="abstract",
        version="v2",
        experiment="bitfit-subset",
        expects=False,
    ),
    Discovery(
        id="bitfit-since-norms",
        title="Layer norms instead",
        found="Training only the layer norms in attention was enough to make a language model read pictures, and did "
        "better there than LoRA on average.",
        follows="Where no bias is left, the norms are: as few numbers, in the same spirit.",
        source=src.LAYER_NORMS,
        place="abstract",
        version="v1",
        opens=lab("atlas", type="ln_tuning"),
    ),
)
