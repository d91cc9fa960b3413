"""What the source text says about QLoRA alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.core.units import Source
from peft_lab.interview.claims.base import Claim, Found, Subject, both, counted
from peft_lab.interview.claims.figures import share, times
from peft_lab.interview.question import separate_attention, takes
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelShape

LOW, HIGH = 0.1, 1.0  # percent, as the text has it for both
QLORA_RANK = 64  # of the text's snippet


def _quantised(shape: ModelShape) -> bool:
    return separate_attention(shape) and takes("qlora", shape)


def _qlora_share(model: Subject) -> Found:
    shape = model.shape
    targets = [shape.target_name(shape.block[role]) for role in ("q", "k", "v", "o")]
    snippet = model.share("qlora", r=QLORA_RANK, target_modules=targets)
    usual = model.share("qlora")
    return Found(
        both(LOW <= snippet <= HIGH, LOW <= usual <= HIGH),
        f"{share(snippet)} with the snippet's rank {QLORA_RANK} on the attention's maps, {share(usual)} at PEFT "
        f"Lab's defaults",
        "The share is LoRA's: 4 bits change the bytes of the base, not how many parameters it has. PEFT's own print "
        "counts packed weights as what they stand for.",
        {"snippet": snippet, "usual": usual},
    )


def _snippet(model: Subject) -> Found:
    """The maps that the snippet adapts, beside all: the paper adapts every one."""
    shape = model.shape
    adapted = [shape.block[role] for role in ("q", "k", "v", "o")]
    everything = [group for group in shape.matrices if group.layers]
    weights = [sum(group.each * group.count for group in groups) for groups in (adapted, everything)]
    names = [len({shape.target_name(group) for group in groups}) for groups in (adapted, everything)]
    return Found(
        both(True, names[0] == names[1]),  # the base is in NF4 with double quantisation, as the paper has it
        f"it adapts {names[0]} of a layer's {names[1]} linear maps, which hold {share(100 * weights[0] / weights[1])} "
        "of its weights",
        "The base is stored as in the paper, but adapters on the attention's maps alone did not match full "
        "fine-tuning there: they have to be on all. The snippet also leaves out prepare_model_for_kbit_training, which "
        "keeps norms and head in full precision and turns on gradient checkpointing; without it every layer's "
        "activations stay in memory.",
        {"adapted": names[0], "maps": names[1], "weights": 100 * weights[0] / weights[1]},
        f"QLoRA adapted all of them: {src.QLORA}, section 4 and figure 2",
    )


def _merge(model: Subject) -> Found:
    from peft_lab.studies import merging

    found = merging.merge_scores()
    kept = found.scores[merging.UNMERGED]
    apart = {way: kept - found.scores[way] for way in merging.WAYS}
    error = (kept * (1 - kept) / found.rows) ** 0.5
    same = [way for way in merging.WAYS if abs(apart[way]) <= 2 * error]
    shown = {way: share(100 * score) for way, score in found.scores.items()}
    return Found(
        "right" if len(same) == len(merging.WAYS) else "imprecise" if same else "wrong",
        f"on {get_model(merging.REQUEST.model).title}, trained for {merging.REQUEST.steps} steps, {shown['unmerged']} "
        f"of {found.rows} answers are right unmerged, {shown['expanded']} merged into the rounded base expanded to 16 "
        f"bits, {shown['fresh']} into the 16-bit original, {shown['rounded again']} rounded to NF4 once more; "
        f"{shown['base']} without the adapter. One standard error is {100 * error:.1f} points. With a correction of "
        f"one percent of a weight matrix of it, rounding again errs by {times(found.lost)} the correction, and going "
        f"to the 16-bit original moves the weights by {times(found.shift)} the correction",
        "What rounding did to the base is noise to what was learnt: taking it back hardly changes the answers, though "
        "it is far larger than the correction. Rounding the sum again is noise as large as a small correction itself, "
        "which disappears between two code values. So merge into 16 bits, and measure.",
        {f"score {way}": 100 * score for way, score in found.scores.items()}
        | {"lost": found.lost, "shift": found.shift, "error": 100 * error,
           "correction": 100 * found.correction, "rounding": 100 * found.rounding},
    )  # fmt: skip


CLAIMS = (
    counted(
        id="qlora-share", topic="qlora", check=_qlora_share, fits=_quantised, model="llama-3.1-70b",
        claim="QLoRA trains 0.1 to 1% of the parameters.", quote="QLoRA | 0.1–1%",
    ),
    counted(
        id="qlora-snippet", topic="qlora", check=_snippet, fits=_quantised, model="llama-3.1-70b",
        how="linear maps in the model's shape, beside the paper's setting",
        claim="The snippet is QLoRA as its paper has it.",
        quote="target_modules=[\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\"] … get_peft_model(model, lora_config)",
    ),
    Claim(
        id="qlora-merge", topic="qlora", check=_merge, source=Source.MEASURED, needs="torch", model=None,
        origin="saying", how="a short training, scored on held-out rows after every way of merging it",
        claim="However a QLoRA adapter is merged, the model stays as good.", quote="merge_and_unload(), done.",
    ),
)  # fmt: skip
