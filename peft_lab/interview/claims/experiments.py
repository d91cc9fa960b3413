"""Claims that a small experiment settles: run in the inspector process on a small model or on random numbers."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.facts import LENGTHENS, MERGES, RUNS, fact
from peft_lab.core.units import Source
from peft_lab.interview import computed
from peft_lab.interview import predicted_behaviour as library
from peft_lab.interview.claims.base import ABOUT, Claim, Found, Subject, both, holds
from peft_lab.interview.claims.figures import share, times
from peft_lab.interview.computed import block_entries
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.studies import tiny as run
from peft_lab.studies.compare.shipped import all_shipped

small = partial(
    Claim, source=Source.MEASURED, needs="torch", model=None,
    how="a small experiment with a fixed seed",
)  # fmt: skip
EXACT = 0.01  # percent: rounding of float32
DEVICES = {"cpu": "a processor", "cuda": "a GPU", "mps": "Apple silicon"}
STEPS, TOKENS = 20, 8
RATES, SEEDS = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1), 5


def _nf4(model: Subject) -> Found:
    nf4, fp4, integer = run.four_bit_errors()
    nvfp4, mxfp4 = computed.float_errors()
    bits = {
        name: f"{computed.nf4_bits(block, constant=computed.SECOND_CONSTANT_BITS):.3g}"
        for name, block in (("NVFP4", computed.NVFP4_BLOCK), ("MXFP4", computed.MXFP4_BLOCK))
    }
    return Found(
        holds(nf4 < min(fp4, nvfp4, mxfp4)),
        f"relative error on normally distributed weights: NF4 {share(nf4)} and bitsandbytes' FP4 {share(fp4)} in "
        f"blocks of {computed.NF4_BLOCK}, NVFP4 {share(nvfp4)} in blocks of {computed.NVFP4_BLOCK}, MXFP4 "
        f"{share(mxfp4)} in blocks of {computed.MXFP4_BLOCK}, evenly spaced integers {share(integer)}",
        "NF4's values are quantiles of the normal distribution: its codes are used more evenly than those of an "
        "even grid, and are dense where weights are. Which FP4 is meant matters: with its short blocks NVFP4 comes "
        f"close, at {bits['NVFP4']} bits a weight; MXFP4, at {bits['MXFP4']}, has powers of two as constants; NF4 with "
        f"double quantisation takes {computed.nf4_bits(double=True):.3g}.",
        {"nf4": nf4, "fp4": fp4, "nvfp4": nvfp4, "mxfp4": mxfp4},
    )


def _merge(model: Subject) -> Found:
    left, exact, unmerged, merged = run.merge_costs()
    return Found(
        both(left == 0 and exact < EXACT, merged <= (1 + ABOUT) * unmerged),
        f"merged, the model has {left:.0f} parameters more than the base, and outputs differ by {share(exact)} in "
        f"float32; in bfloat16 they are {share(merged)} off the exact ones, unmerged {share(unmerged)}",
        "Merged, a request costs what it cost before. In 16 bits adding a small ΔW to a larger W rounds, but so does "
        "adding BA·x to W·x: the two differ, and neither is nearer the exact result.",
        {"left": left, "float32": exact, "unmerged": unmerged, "merged": merged},
    )


def _overhead(model: Subject) -> Found:
    (lost,) = run.merged_into_four_bits()
    shipped = next(each for each in all_shipped().values() if each["inference_unit"] == "token")
    row = next(row for row in shipped["rows"] if row["method"] == "qlora")
    longer = 100 * row["added_seconds"] / row["base_inference_seconds"]
    entry, where = get_model(shipped["plan"]["model"]), DEVICES[shipped["device"]]
    return Found(
        both(longer > 0, not get_method("lora").mergeable),  # the merged adapter is LoRA's, on a 16-bit base
        f"on {entry.title}, {units.short_count(entry.parameters)} parameters on {where}, a token took {share(longer)} "
        "longer with the adapter beside a 4-bit base than on the 16-bit base alone; merging the correction into the "
        f"4-bit weights changes it by {share(100 * lost)} of its own size",
        "While the base stays in 4 bits, every multiplication dequantises its weights. How much that costs depends on "
        "model, device and kernel, and this is one small model. Merging removes it, but the sum is rounded: coarsely "
        "in 4 bits, and in 16 bits onto a base the adapter was not trained with.",
        {"lost": lost, "longer": longer},
    )


def _alpha(model: Subject) -> Found:
    (ratio,) = run.doubled_alpha()
    return Found(
        "imprecise",
        f"twice the α multiplies ΔW by {ratio:.3g}, whatever was learnt",
        "It scales the output of BA, in training and after it; a learning rate only scales the steps. With "
        "Adam, whose steps hardly depend on the gradients' size, doubling either lets ΔW grow about twice as fast at "
        "first, while only B moves. Later they part: a larger rate moves A faster as well, a larger α does not.",
        {"ratio": ratio},
    )


def _both_learn(model: Subject) -> Found:
    first, second = run.first_gradients()
    return Found(
        holds(first > 0 and second > 0),  # the claim is about both
        f"norm of the first gradient: {first:.3g} for A, {second:.3g} for B",
        "B starts at zero, so nothing reaches A in the first step; B moves first, then A.",
        {"A": first, "B": second},
    )


def _zero(model: Subject) -> Found:
    usual, nothing = run.trained_from_zero(STEPS)
    return Found(
        holds(nothing > 0),
        f"after {STEPS} steps the loss has fallen by {usual:.3g} with B at zero, by {nothing:.3g} with both",
        "The gradient of each is a product with the other: with both at zero neither ever moves.",
        {"usual": usual, "nothing": nothing},
    )


def _which_zero(model: Subject) -> Found:
    """Each start at the best of several rates. Wrong where every seed says the same; else others' results speak too."""
    zero_b, zero_a = run.zero_sides(RATES, STEPS, SEEDS)
    ahead = sum(a > b for a, b in zip(zero_a, zero_b, strict=True))
    mean_b, mean_a = sum(zero_b) / SEEDS, sum(zero_a) / SEEDS
    return Found(
        "wrong" if ahead in (0, SEEDS) else "imprecise",
        f"each at the best of {len(RATES)} rates, after {STEPS} steps the loss has fallen by {mean_b:.3g} with B at "
        f"zero and by {mean_a:.3g} with A at zero, the latter more in {ahead} of {SEEDS} seeds",
        "The model is the same before the first step, but what moves first is not. What was found in wide models does "
        "not have to show in a model as small as the one here, which learns by heart.",
        {"B": mean_b, "A": mean_a},
        f"In large models B at zero was better on average, as it allows larger rates ({src.LORA_INIT})",
    )


def _misspelt(model: Subject) -> Found:
    refused, warned, passed, *_ = library.misspelt_target()
    reaction = "refuses it" if refused else "warns" if warned else "says nothing and adapts the rest"
    return Found(
        holds(not passed),
        f"with 1 of 2 target names misspelt PEFT {reaction}",
        "It only objects when no name at all matches. PEFT Lab names every target that matches nothing.",
        {"passed": passed},
    )


def _activations(model: Subject) -> Found:
    (kept,) = run.saved_share()
    return Found(
        holds(kept < 50),
        f"LoRA keeps {share(kept)} of the bytes that full fine-tuning keeps for the backward pass",
        "Gradients still have to travel through the frozen layers, whose norms, products, activation functions and "
        "attention need what went into them.",
        {"kept": kept},
    )


def _twice(model: Subject) -> Found:
    (ratio,) = library.wrapped_twice()
    return Found(
        holds(ratio == 1),
        f"after the second wrapping {times(ratio)} as many parameters are trained as after the same on a fresh base",
        "The first adapter's layers stay in the model and stay trainable. Start from a fresh base or unload first.",
        {"ratio": ratio},
    )


def _pissa(model: Subject) -> Found:
    started, off = library.pissa_disabled()
    return Found(
        holds(off < EXACT),
        f"with the adapter off, outputs differ from the original model's by {share(off)}",
        "PiSSA takes W's strongest directions out of the base and puts them into the adapter.",
        {"off": off, "started": started},
    )


def _positions(model: Subject) -> Found:
    (plain,), (longer,) = library.prompt_positions(1), library.prompt_positions(TOKENS)
    return Found(
        holds(longer == plain),
        f"{TOKENS - 1} more virtual tokens give {longer - plain:.0f} more positions of logits",
        "Virtual tokens are part of the sequence: they take positions, attention and cache.",
        {"more": longer - plain},
    )


def _encoder(model: Subject) -> Found:
    runs, *_ = library.prefix_on_encoder()
    return Found(
        "right" if runs else "imprecise",
        f"one attempt on a BERT-type classifier with PEFT {'ran' if runs else 'did not run'}",
        "PEFT hands the prefix over as past keys and values, which such models do not accept in transformers today. "
        "The method needs no cache: deep prompt tuning puts trained keys and values into the attention of encoders.",
        {"runs": runs},
    )


def _four_bits(model: Subject) -> Found:
    single, double = computed.nf4_bits(double=False), computed.nf4_bits(double=True)
    return Found(
        holds(double <= computed.CODE_BITS),
        f"{single:.4g} bits a weight, {double:.4g} with double quantisation",
        "Every block of weights has a constant, which is stored too.",
        {"single": single, "double": double},
    )


def _double(model: Subject) -> Found:
    single, double = computed.nf4_bits(double=False), computed.nf4_bits(double=True)
    saved = block_entries(model.shape) * (single - double) / 8
    return Found(
        holds(saved > 0),
        f"{single - double:.3g} bits a weight, {units.size(saved)} on {model.shape.title}",
        "The constants of the blocks are stored in fewer bits themselves.",
        {"saved": saved},
    )


CLAIMS = (
    small(
        id="nf4-better", topic="quantisation", check=_nf4, claim="NF4 is better than FP4.",
        quote="NormalFloat4 — better than fp4",
    ),
    Claim(
        id="double-quantisation", topic="quantisation", check=_double, source=Source.COUNTED,
        how="bits of code and constants, times the weights of the layers",
        claim="Double quantisation saves extra memory.", quote="nested quantization saves extra memory",
    ),
    small(
        id="lora-merges", topic="lora", check=_merge, claim="LoRA merges back into the base at no cost.",
        facts=(fact("lora", MERGES),),
        quote="merges back into base model at inference (zero overhead)",
    ),
    small(
        id="lora-alpha", topic="lora", check=_alpha, claim="α/r is the effective learning rate.",
        quote="scaling factor (alpha/r = effective lr scale)",
    ),
    small(
        id="qlora-overhead", topic="qlora", check=_overhead, claim="QLoRA has a quantisation overhead at inference.",
        quote="QLoRA | Quantization overhead",
        how="the comparison on orders that ships with this lab, and a small experiment with a fixed seed",
    ),
    small(
        id="both-learn", topic="lora", check=_both_learn, origin="saying",
        claim="A and B both learn from the first step.", quote="A and B are trained together from the start.",
    ),
    small(
        id="zero-start", topic="lora", check=_zero, origin="saying",
        claim="Starting A and B both at zero works as well.", quote="Just zero both: the model starts unchanged.",
    ),
    small(
        id="which-zero", topic="lora", check=_which_zero, origin="saying",
        claim="It does not matter which of A and B starts at zero.", quote="A or B at zero: BA is zero either way.",
    ),
    small(
        id="misspelt-target", topic="lora", check=_misspelt, origin="saying",
        claim="PEFT tells you when a target module is misspelt.", quote="If it ran, the targets were right.",
    ),
    small(
        id="lora-activations", topic="memory", check=_activations, origin="saying",
        claim="LoRA does without most of the activations.", quote="Frozen layers need no activations.",
    ),
    small(
        id="wrapped-twice", topic="training", check=_twice, origin="saying",
        claim="Wrapping a model again replaces the adapter.", quote="Call get_peft_model again for the next one.",
    ),
    small(
        id="pissa-off", topic="lora", check=_pissa, origin="saying",
        claim="Switching the adapter off always gives the original model back.",
        quote="Disable the adapter and you have the base.",
    ),
    small(
        id="prompt-free", topic="prompt", check=_positions, origin="saying",
        facts=(fact("prompt", LENGTHENS),),
        claim="Virtual tokens cost nothing at inference.", quote="Soft prompts are free once trained.",
    ),
    small(
        id="prefix-anywhere", topic="prefix", check=_encoder, origin="saying",
        facts=(
            fact("prefix", RUNS, "encoder", "never", through="peft"),
            fact("prefix", RUNS, "encoder", through="attention"),
        ),
        claim="Prefix Tuning works on any transformer.", quote="Every attention layer can take a prefix.",
    ),
    Claim(
        id="four-bits", topic="quantisation", check=_four_bits, source=Source.COUNTED, origin="saying", model=None,
        how="code and constants, Dettmers et al. 2023, section 3",
        claim="A 4-bit weight takes 4 bits.", quote="4-bit means 4 bits per weight.",
    ),
)  # fmt: skip
