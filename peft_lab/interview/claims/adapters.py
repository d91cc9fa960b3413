"""What the source text says about adapters alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from functools import partial

from peft_lab.advise.cited import ADAPTER_LATENCY, ADAPTER_LATENCY_MOST
from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.interview.claims.base import Claim, Found, Subject, counted, holds, within
from peft_lab.interview.claims.figures import share
from peft_lab.interview.question import one_stack
from peft_lab.methods import get_method

ADAPTERS_PAPER = (0.5, 8.0)  # percent; Houlsby et al. 2019, section 2.1
BOTTLENECK = 64
read = partial(Claim, source=Source.COUNTED)
BOTTLENECK_WORDS = ("bottleneck", "houlsby", "pfeiffer", "reduction_factor")
cited = partial(Claim, source=Source.CITED, model=None)


def _adapters_share(model: Subject) -> Found:
    one, two = (
        model.share("adapters", bottleneck=BOTTLENECK, placement=place) for place in ("pfeiffer", "houlsby")
    )
    low, high = 1.0, 4.0
    low_paper, high_paper = ADAPTERS_PAPER
    inside = low <= one <= high or low <= two <= high
    verdict = "right" if inside else within(two, low, high)
    return Found(
        verdict,
        f"width {BOTTLENECK}: {share(one)} with one adapter a layer, {share(two)} with two",
        f"The paper itself gives {low_paper:g} to {high_paper:g}% on BERT; the share falls as models get wider "
        f"at the "
        "same bottleneck.",
        {"pfeiffer": one, "houlsby": two},
    )


def _snippet(model: Subject) -> Found:
    from peft import AdaptionPromptConfig, PeftType

    names = [str(kind.value).lower() for kind in PeftType]
    bottlenecks = [name for name in names if any(word in name for word in BOTTLENECK_WORDS)]
    fields = [name for name in AdaptionPromptConfig.__dataclass_fields__ if name.startswith("adapter_")]
    return Found(
        holds(bool(bottlenecks) or any(word in name for name in fields for word in BOTTLENECK_WORDS)),
        f"{len(bottlenecks)} of PEFT's {len(names)} methods are bottleneck adapters; AdaptionPrompt's own "
        f"settings are " + ", ".join(fields),
        "AdaptionPrompt is LLaMA-Adapter: gated prompts in the upper layers. The adapters library has "
        "bottleneck adapters, but needs an older transformers. PEFT Lab has its own.",
        {"bottlenecks": len(bottlenecks)},
    )


def _norm_first(model: Subject) -> Found:
    """An adapter by the paper's formula, and what a norm in front of it would add: two numbers a feature."""
    width = model.shape.hidden
    houlsby = 2 * width * BOTTLENECK + width + BOTTLENECK
    counted_here = model.trained("adapters", bottleneck=BOTTLENECK, placement="pfeiffer")
    norm = 2 * width
    return Found(
        "imprecise" if counted_here == houlsby * model.shape.num_layers else "wrong",
        f"without a norm an adapter of width {BOTTLENECK} has {units.count(houlsby)} parameters on "
        f"{model.shape.title}, which is what is counted in every layer; a norm of its own would add "
        f"{units.count(norm)}",
        "There are adapters with a norm in front: those for translation. The ones that the text means, and that its "
        "snippet would add, have none: down, nonlinearity, up, and the way around them.",
        {"houlsby": houlsby, "norm": norm},
        f"With a norm first: {src.BAPNA}; without: {src.HOULSBY}, section 2.1",
    )


def _adapters_pass(model: Subject) -> Found:
    return Found(
        holds(not get_method("adapters").mergeable),
        f"in a published measurement a single row took {ADAPTER_LATENCY} to {ADAPTER_LATENCY_MOST} longer",
        "The nonlinearity between the two matrices cannot be folded into the weights, so the layers stay, in "
        "sequence.",
        {"least": ADAPTER_LATENCY.value, "most": ADAPTER_LATENCY_MOST.value},
    )


CLAIMS = (
    counted(
        id="adapters-norm", topic="adapters", check=_norm_first, fits=one_stack,
        claim="An adapter begins with a LayerNorm.",
        quote="Input → LayerNorm → Down(d → r) → ReLU → Up(r → d) → + residual → Output",
    ),
    counted(
        id="adapters-share", topic="adapters", check=_adapters_share, fits=one_stack,
        claim="Adapters train 1 to 4% of the parameters.", quote="Adapters | 1–4%",
    ),
    read(
        id="adapters-snippet", topic="adapters", check=_snippet, model=None, needs="torch",
        how="the methods and settings that the installed PEFT has",
        claim="PEFT's AdaptionPromptConfig makes adapter layers.",
        quote="from peft import AdaptionPromptConfig  # or use adapter-transformers lib",
    ),
    cited(
        id="adapters-extra-pass", topic="adapters", check=_adapters_pass, how=f"{src.LORA}, table 1",
        claim="Adapters cost an extra forward pass through their layers.", quote="Adapters | 1–4% | Extra forward pass",
    ),
)  # fmt: skip
