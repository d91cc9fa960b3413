"""What the source text says about numbers of parameters. Its own settings are used wherever it shows a snippet."""

from __future__ import annotations

from functools import partial

from peft_lab import units
from peft_lab.claims.base import FIRST, Claim, Found, Subject
from peft_lab.claims.figures import share, times
from peft_lab.claims.judge import about, both, holds, within
from peft_lab.methods import get_method
from peft_lab.methods.lora.spec import Lora
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.fits import one_stack, prefixed, prompted, separate_attention, takes
from peft_lab.units import Source

counted = partial(
    Claim, source=Source.COUNTED, how="each method's formula on the model's shapes, checked against a count"
)
STATED_TRAINABLE, STATED_TOTAL = 4_718_592, 3_216_749_568
QLORA_RANK = 64  # of the text's snippet
LOW, HIGH = 0.1, 1.0  # percent, as the text has it for both
RANK, TOKENS, FEW_TOKENS, WIDTH, BOTTLENECK, ALPHA = 16, 20, 8, 128, 64, 32
NEAR = 2  # times: still "slightly"
ADAPTERS_PAPER = (0.5, 8.0)  # percent; Houlsby et al. 2019, abstract and section 3


def _targets(shape: ModelShape) -> list[str]:
    """Query and value maps under the model's names (the fused map where there is one)."""
    return list(get_method("lora").defaults(shape)["target_modules"])


def _lora_count(model: Subject) -> Found:
    targets = _targets(model.shape)
    values = {"r": RANK, "target_modules": targets}
    trained, total = model.trained("lora", **values), model.total("lora", **values)
    shape = model.shape
    square = RANK * 2 * shape.hidden * len(targets)  # in one layer
    why = (
        "Grouped-query attention makes the value map narrower than the query map, but that alone does not explain it: "
        f"with square maps in all {shape.num_layers} layers it would be {units.count(square * shape.num_layers)}."
    )
    if square * shape.heads == STATED_TRAINABLE:
        why += (
            f" What is stated is the count of square maps over {shape.heads} layers, and {shape.heads} is the number "
            "of the model's heads."
        )
    return Found(
        holds(trained == STATED_TRAINABLE and total == STATED_TOTAL),
        f"{units.count(trained)} trainable of {units.count(total)}, {share(100 * trained / total)}",
        why,
        {"trainable": trained, "total": total},
    )


def _lora_share(model: Subject) -> Found:
    small = model.share("lora", r=RANK, target_modules=_targets(model.shape))
    large = model.share("lora", r=RANK, target_modules=["all-linear"])
    return Found(
        both(LOW <= small <= HIGH, LOW <= large <= HIGH),
        f"rank {RANK}: {share(small)} on query and value, {share(large)} on every linear map",
        "The share follows from rank, targets and width: it falls as models get wider and rises with the targets.",
        {"query_value": small, "all": large},
    )


def _quantised(shape: ModelShape) -> bool:
    return separate_attention(shape) and takes("qlora", shape)


def _qlora_share(model: Subject) -> Found:
    shape = model.shape
    targets = [shape.target_name(shape.block[role]) for role in ("q", "k", "v", "o")]
    snippet = model.share("qlora", r=QLORA_RANK, target_modules=targets)
    usual = model.share("qlora")
    return Found(
        both(LOW <= snippet <= HIGH, LOW <= usual <= HIGH),
        f"{share(snippet)} with the snippet's rank {QLORA_RANK} on the attention's maps, {share(usual)} at this lab's "
        "defaults",
        "The share is LoRA's: 4 bits change the bytes of the base, not how many parameters it has. PEFT's own print "
        "counts packed weights as what they stand for.",
        {"snippet": snippet, "usual": usual},
    )


def _prefix_share(model: Subject) -> Found:
    plain = model.share("prefix", num_virtual_tokens=TOKENS)
    projected = model.share("prefix", num_virtual_tokens=TOKENS, prefix_projection=True)
    verdict = "right" if max(plain, projected) < 1 else "imprecise" if plain < 1 else "wrong"
    return Found(
        verdict,  # type: ignore[arg-type]
        f"{TOKENS} tokens: {share(plain)} trained without projection, {share(projected)} with it",
        "The text's own snippet switches the projection on: an MLP that exists in training only is then most of what "
        "is "
        "trained. What is stored stays small.",
        {"plain": plain, "projected": projected},
    )


def _prefix_against_prompt(model: Subject) -> Found:
    prefix = model.stored("prefix", num_virtual_tokens=TOKENS)
    prompt = model.stored("prompt", num_virtual_tokens=TOKENS)
    ratio = prefix / prompt
    return Found(
        holds(ratio <= NEAR),
        f"{units.count(prefix)} against {units.count(prompt)} for {TOKENS} tokens: {times(ratio)} as many",
        "A prompt is one vector for each token; a prefix has keys and values in every layer.",
        {"ratio": ratio},
    )


def _prompt_share(model: Subject) -> Found:
    few, more = (model.share("prompt", num_virtual_tokens=count) for count in (FEW_TOKENS, TOKENS))
    limit = 0.01
    verdict = "right" if more < limit else "imprecise" if few < limit else "wrong"
    return Found(
        verdict,  # type: ignore[arg-type]
        f"{share(few)} with {FEW_TOKENS} tokens, {share(more)} with {TOKENS}",
        "Tokens times width over all parameters: width grows far slower than the model, so the share is tiny only on "
        "large ones.",
        {"few": few, "more": more},
    )


def _ptuning_small(model: Subject) -> Found:
    snippet = model.share("ptuning", num_virtual_tokens=TOKENS, encoder_hidden_size=WIDTH)
    mlp = model.share("ptuning", num_virtual_tokens=TOKENS)
    lstm = model.share("ptuning", num_virtual_tokens=TOKENS, encoder_reparameterization_type="LSTM")
    small = [value < 1 for value in (snippet, mlp, lstm)]
    return Found(
        "right" if all(small) else "imprecise" if any(small) else "wrong",
        f"{share(snippet)} of the model at width {WIDTH}; at PEFT's default width {share(mlp)} as an MLP and "
        f"{share(lstm)} as an LSTM",
        "PEFT's default width is the model's own, and an LSTM has four gates in two directions. Only the virtual "
        "tokens "
        "are stored.",
        {"snippet": snippet, "mlp": mlp, "lstm": lstm},
    )


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
        f"The paper itself gives {low_paper:g} to {high_paper:g}% on BERT; the share falls as models get wider at the "
        "same bottleneck.",
        {"pfeiffer": one, "houlsby": two},
    )


def _ia3_share(model: Subject) -> Found:
    value = model.share("ia3")
    return Found(
        within(value, 0, 0.01),
        f"{units.count(model.trained('ia3'))} vectors' entries, {share(value)} of {model.shape.title}",
        "One number per feature over one number per weight: the share falls with the width of the model.",
        {"share": value},
    )


def _ia3_below_lora(model: Subject) -> Found:
    ia3, least = model.trained("ia3"), model.trained("lora", r=1, target_modules=_targets(model.shape))
    lora = model.trained("lora", target_modules=_targets(model.shape))
    return Found(
        both(ia3 < lora, ia3 < least),
        f"{units.count(ia3)} against {units.count(lora)} of LoRA at its defaults; at rank 1 LoRA has "
        f"{units.count(least)}",
        "LoRA has two vectors for each rank and matrix; IA³ has one vector for each, as long as the matrix's output or "
        "input. At the lowest rank the two are close.",
        {"ia3": ia3, "lora": lora, "least": least},
    )


def _bitfit_share(model: Subject) -> Found:
    if not model.shape.biases:
        return Found(
            "wrong",
            f"{len(model.shape.biases)} biases in {model.shape.title}",
            "Llama-type models are built without biases: there is nothing to train.",
            {"share": 0.0},
        )
    value = model.share("bitfit")
    return Found(
        about(value, 0.08),
        f"{units.count(model.trained('bitfit'))} biases, {share(value)}",
        "One bias per output against one weight per input and output.",
        {"share": value},
    )


def _break_even(model: Subject) -> Found:
    query = model.shape.block["q"]
    inputs, outputs = query.in_features, query.out_features
    rank = inputs * outputs / (inputs + outputs)
    return Found(
        "right",
        f"at rank {rank:,.0f} A and B hold as many numbers as the query map itself; rank {RANK} holds "
        f"{share(100 * RANK / rank)} of them",
        "ΔW can have no higher rank than r. At full rank it can be any matrix, as in full fine-tuning of that matrix.",
        {"rank": rank},
    )


def _scale(model: Subject) -> Found:
    lora = get_method("lora")
    assert isinstance(lora, Lora)
    values = lora.complete(model.shape, {"r": RANK, "lora_alpha": ALPHA})
    factor = lora.scale(values)
    return Found(
        "right" if factor == 1 else "imprecise",
        f"with the snippet's own α = {ALPHA} and r = {RANK} the product is multiplied by {factor:g}",
        "The formula leaves out the scale α/r, which the paper and PEFT have.",
        {"factor": factor},
    )


def _is_meant(shape: ModelShape) -> bool:
    """The one model that the figures are about."""
    return shape.name == FIRST


def _has_lora(shape: ModelShape) -> bool:
    return takes("lora", shape)


CLAIMS = (
    counted(
        id="lora-count", topic="lora", check=_lora_count, fits=_is_meant,
        claim="LoRA at rank 16 on q and v of Llama 3.2 3B trains 4,718,592 of 3,216,749,568 parameters.",
        said="# trainable params: 4,718,592 || all params: 3,216,749,568 || trainable%: 0.15%",
    ),
    counted(
        id="lora-share", topic="lora", check=_lora_share, fits=_has_lora,
        claim="LoRA trains 0.1 to 1% of the parameters.", said="LoRA | 0.1–1%",
    ),
    counted(
        id="qlora-share", topic="qlora", check=_qlora_share, fits=_quantised, model="llama-3.1-70b",
        claim="QLoRA trains 0.1 to 1% of the parameters.", said="QLoRA | 0.1–1%",
    ),
    counted(
        id="lora-formula", topic="lora", check=_scale, fits=_has_lora,
        claim="LoRA computes W + BA.", said="W' = W + ΔW = W + BA",
    ),
    counted(
        id="lora-rank", topic="lora", check=_break_even, fits=separate_attention,
        claim="A higher rank is more expressive and approaches full fine-tuning.",
        said="higher r = more expressive but approaches full fine-tuning",
    ),
    counted(
        id="prefix-share", topic="prefix", check=_prefix_share, fits=prefixed,
        claim="Prefix Tuning trains less than 1% of the parameters.", said="Prefix Tuning | <1%",
    ),
    counted(
        id="prefix-slightly-more", topic="prefix", check=_prefix_against_prompt, fits=prefixed,
        claim="Prefix Tuning has slightly more parameters than Prompt Tuning.",
        said="Slightly more parameters than prompt tuning but more expressive.",
    ),
    counted(
        id="prompt-share", topic="prompt", check=_prompt_share, fits=prompted,
        claim="Prompt Tuning trains less than 0.01% of the parameters.", said="Prompt Tuning | <0.01%",
    ),
    counted(
        id="ptuning-small", topic="ptuning", check=_ptuning_small, fits=prompted,
        claim="P-Tuning uses a small LSTM or MLP.",
        said="Uses a small LSTM or MLP to generate virtual prompt tokens",
    ),
    counted(
        id="adapters-share", topic="adapters", check=_adapters_share, fits=one_stack,
        claim="Adapters train 1 to 4% of the parameters.", said="Adapters | 1–4%",
    ),
    counted(
        id="ia3-share", topic="ia3", check=_ia3_share, fits=one_stack,
        claim="IA³ trains less than 0.01% of the parameters.", said="IA³ | <0.01%",
    ),
    counted(
        id="ia3-below-lora", topic="ia3", check=_ia3_below_lora, fits=one_stack,
        claim="IA³ has fewer parameters than LoRA.",
        said="Extremely parameter-efficient — even fewer parameters than LoRA.",
    ),
    counted(
        id="bitfit-share", topic="bitfit", check=_bitfit_share, model="bert-base", fits=one_stack,
        claim="The biases are about 0.08% of the parameters.",
        said="Bias params are ~0.1% of total model parameters … ~0.08%",
    ),
)  # fmt: skip
