"""Define the checks of the clinic, each a function that examines one thing; the decorator ``check`` registers it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from peft_lab.interview.clinic.faults import (
    AGAINST,
    HINT,
    PROOF,
    SIZES,
    SLIGHT,
    SOME,
    STRONG,
    Evidence,
    all_faults,
    sign,
)
from peft_lab.interview.clinic.reading import Features

#: The inputs of a check; it runs only if all were given.
Needs = Literal["adapter", "arguments", "rows", "messages", "tensors", "tokens"]
NEEDS: dict[Needs, str] = {
    "adapter": "the adapter's config",
    "arguments": "the training arguments",
    "rows": "the losses",
    "messages": "the console output",
    "tensors": "the adapter's weights",
    "tokens": "the tokenizer's files",
}
Look = Callable[[Features], Iterable[Evidence]]


#: The checks, each with the inputs that must all be given.
CHECKS: dict[Look, tuple[Needs, ...]] = {}


def check(*needs: Needs) -> Callable[[Look], Look]:
    """Register a function as a check."""

    def register(look: Look) -> Look:
        CHECKS[look] = needs
        return look

    return register


# ----------------------------------------
# What the configs state.


#: Initialisations that subtract the adapter's start from the base's weights.
MOVING = ("pissa", "olora", "corda")
_COLLATOR = "DataCollatorForLanguageModeling"
_ADDED = "accumulation-not-averaged"


@check("adapter")
def alpha(seen: Features) -> Iterator[Evidence]:
    """Look for α = 0."""
    adapter = seen.of.adapter or {}
    if adapter.get("lora_alpha") == 0:
        yield sign("alpha-zero", "zero", PROOF, r=adapter.get("r"))


@check("adapter")
def initialisation(seen: Features) -> Iterator[Evidence]:
    """Look for an initialisation that changes the base; PEFT writes ``true`` here after conversion to a plain LoRA."""
    start = (seen.of.adapter or {}).get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(MOVING):
        yield sign("base-changed", "initialisation", PROOF, start=start)


@check("adapter")
def targets_of_the_base(seen: Features) -> Iterator[Evidence]:
    """Look for target names that match no module of the base."""
    if seen.base is None or not seen.targets:
        return
    lost = seen.base.match(list(seen.targets)).unmatched
    quoted = ", ".join(f"'{name}'" for name in lost)
    if lost and len(lost) == len(seen.targets):
        yield sign("target-misspelt", "no module", PROOF, base=seen.base.title, names=quoted)
    elif lost:
        yield sign("target-partly-misspelt", "no module", PROOF, base=seen.base.title, names=quoted)


@check("arguments")
def prompts_in_the_loss(seen: Features) -> Iterator[Evidence]:
    """Look at arguments of TRL, Axolotl and Alpaca-LoRA that decide which tokens are trained on."""
    arguments = seen.of.arguments or {}
    for name in ("completion_only_loss", "assistant_only_loss", "mask_prompt"):
        if arguments.get(name) is False:
            yield sign("prompt-not-masked", "argument", STRONG, name=name, value="false")
    if arguments.get("train_on_inputs") is True:
        yield sign("prompt-not-masked", "argument", STRONG, name="train_on_inputs", value="true")


@check("tokens")
def pad_and_end(seen: Features) -> Iterator[Evidence]:
    """Look for equal pad and end tokens: common, and harmful only if the collator masks by the token."""
    tokens = seen.of.tokens
    if tokens is None or tokens.pad is None or tokens.pad != tokens.eos:
        return
    if str(seen.of.argument("data_collator")) == _COLLATOR:
        yield sign("pad-is-eos", "masked", STRONG, token=tokens.pad, collator=_COLLATOR)
    else:
        yield sign("pad-is-eos", "equal", HINT, token=tokens.pad)


@check("rows", "arguments")
def length_of_outputs(seen: Features) -> Iterator[Evidence]:
    """Look for outputs that all reach the length limit."""
    limit = seen.number("generation_max_length", "max_new_tokens")
    lengths = [row.gen_len for row in seen.of.rows or () if row.gen_len is not None]
    if limit and lengths and lengths[-1] >= limit:
        yield sign("pad-is-eos", "never ends", SOME, length=lengths[-1])


@check("arguments")
def half_precision(seen: Features) -> Iterator[Evidence]:
    """Look for weights loaded in fp16. Mixed precision alone (fp16=True) keeps what is trained in fp32."""
    said = str(seen.of.argument("torch_dtype", "dtype", "model_dtype"))
    if said.removeprefix("torch.") in ("float16", "fp16", "half"):
        yield sign("fp16-weights", "loaded", HINT, dtype=said)
        if seen.yes("fp16"):
            yield sign("fp16-unscale", "loaded", SOME, dtype=said)


# ----------------------------------------
# What the losses show.


#: Rates outside of which a method has rarely been run with success: below the first it learns next to nothing in a few
#: hundred steps, above the second it diverges. Wide on purpose; the recipes (``peft_lab/advise/recipes``) have the
#: usual ones.
BANDS = {
    "full": (2e-6, 2e-3),
    "lora": (2e-5, 3e-2),
    "adalora": (5e-5, 5e-2),
    "ia3": (2e-4, 2e-1),
    "prefix_tuning": (2e-4, 2e-1),
    "prompt_tuning": (5e-4, 1.0),
    "p_tuning": (5e-4, 1.0),
}
FLAT = 0.03  # share of the first loss by which a curve may fall and still count as flat


@check("rows")
def climbing(seen: Features) -> Iterator[Evidence]:
    """Look for a loss that rises, or that fell and then climbed."""
    curve = seen.curve
    if curve is None:
        return
    # The usual variation of the mean over a fifth of the losses.
    spread = 3 * curve.noise / math.sqrt(max(2, len(curve.losses) // 5))
    if curve.end > 1.15 * curve.start + spread:
        yield sign("rate-too-high", "rose", STRONG, start=curve.start, end=curve.end)
    elif curve.end > 1.5 * curve.best + spread and curve.end > 0.5 * curve.start:
        yield sign("rate-too-high", "climbed", SOME, best=curve.best, end=curve.end)
    elif curve.fall > 0.25:
        yield sign("rate-too-high", "learned", AGAINST, start=curve.start, end=curve.end)
    if curve.top > 2 * curve.start + 4 * curve.noise:
        yield sign("rate-too-high", "jumped", SOME, top=curve.top, start=curve.start)


@check("rows")
def rate_against_band(seen: Features) -> Iterator[Evidence]:
    """Look for a rate outside the method's usual band, considering what the curve shows."""
    band, rate = BANDS.get(seen.method), seen.rate
    if band is None or not rate or (seen.rising and rate == max(seen.rates)):  # not the configured one
        return
    low, high = band
    learned = seen.curve is not None and seen.curve.fall > 0.15
    words = {"rate": rate, "method": seen.method, "low": low, "high": high}
    if rate > 3 * high:
        yield sign("rate-too-high", "far above", 5.5 if learned else PROOF, **words)
    elif rate < low / 3:
        yield sign("rate-too-low", "far below", SOME if learned else PROOF, **words)
    elif rate > high:
        yield sign("rate-too-high", "above", SOME if learned else STRONG, **words)
    elif rate < low:
        yield sign("rate-too-low", "below", HINT if learned else STRONG, **words)
    elif seen.curve is not None and rate > high / 4 and not learned:
        yield sign("rate-too-high", "near the end", SOME, **words)
    elif rate < 4 * low and not learned:
        yield sign("rate-too-low", "near the end", HINT, **words)


@check("rows")
def flat(seen: Features) -> Iterator[Evidence]:
    """Look for a loss that does not change."""
    curve = seen.curve
    if curve is None or curve.start == 0:
        return
    if abs(curve.fall) < FLAT:
        yield sign("rate-too-low", "flat", HINT, start=curve.start, end=curve.end)
    elif curve.fall > 0.15:
        yield sign("rate-too-low", "learned", AGAINST, start=curve.start, end=curve.end)


@check("rows")
def no_number(seen: Features) -> Iterator[Evidence]:
    """Look for NaN, or an exact 0, which Trainer logs instead of NaN: from the first step on, or later."""
    losses = seen.losses
    bad = [number for number, loss in enumerate(losses) if not math.isfinite(loss) or loss == 0]
    if not bad or len(losses) < 3:
        return
    lasts = bad == list(range(bad[0], len(losses)))
    what = "NaN" if math.isnan(losses[bad[0]]) else f"{losses[bad[0]]:g}"
    if bad[0] == 0 and lasts:
        yield sign("all-masked", "from the start", STRONG, what=what)
        yield sign("fp16-weights", "from the start", HINT, what=what)
    elif lasts:
        words = {"before": losses[bad[0] - 1], "what": what, "step": bad[0] + 1}
        yield sign("fp16-weights", "from a step on", STRONG, **words)
        yield sign("rate-too-high", "no number", HINT, what=what)
    else:
        yield sign("fp16-weights", "at times", SOME, what=what, bad=len(bad), losses=len(losses))
        yield sign("all-masked", "at times", HINT, what=what, bad=len(bad), losses=len(losses))


@check("rows", "arguments")
def accumulated(seen: Features) -> Iterator[Evidence]:
    """Look for a training loss that is N times the evaluation's, or above that of a random guess."""
    passes = seen.number("gradient_accumulation_steps") or 1
    evals = [row.eval_loss for row in seen.of.rows or () if row.eval_loss is not None]
    if passes < 2 or not seen.losses or not math.isfinite(seen.losses[0]):
        return
    if evals and math.isfinite(evals[-1]) and evals[-1] > 0 and seen.curve is not None:
        ratio = seen.curve.end / evals[-1]
        if 0.65 * passes < ratio < 1.5 * passes:
            words = {"end": seen.curve.end, "evaluated": evals[-1], "ratio": ratio, "passes": passes}
            yield sign(_ADDED, "as many times", PROOF if passes > 2 else STRONG, **words)
            yield sign("rate-too-high", "added up", -1.0)
            return
        # A loss that still falls fast is further above the later evaluation.
        if ratio >= 1.5 * passes:
            yield sign(_ADDED, "more times", SOME, ratio=ratio, passes=passes)
        else:
            yield sign(_ADDED, "alike", AGAINST, ratio=ratio)
    guess = seen.base.vocab if seen.base is not None and seen.base.kind == "causal-lm" else None
    if guess and seen.losses[0] > 1.1 * math.log(guess):
        words = {"first": seen.losses[0], "tokens": guess, "guess": math.log(guess), "passes": passes}
        yield sign(_ADDED, "above a guess", STRONG, **words)


# ----------------------------------------
# Whether anything was trained: gradient norms compared with the adapter's weights.


@check("rows")
def norms(seen: Features) -> Iterator[Evidence]:
    """Look for gradients that are all zero while there is a loss."""
    if len(seen.norms) < 3 or seen.curve is None or any(seen.norms) or seen.of.adapter is None:
        return
    said = f"grad_norm is 0 in all {len(seen.norms)} logged rows, with a loss of {seen.curve.end:.3g}"
    yield from no_gradients(seen, said)


def no_gradients(seen: Features, said: str) -> Iterator[Evidence]:
    """Yield the faults that make gradients vanish, weighted by what else is known."""
    reentrant = seen.of.argument("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs")
    checkpointing = seen.yes(
        "gradient_checkpointing", "activation_checkpointing", "use_gradient_checkpointing"
    ) and not (isinstance(reentrant, dict) and reentrant.get("use_reentrant") is False)
    bits = seen.yes("load_in_4bit", "load_in_8bit") or bool(seen.of.argument("quantization_bit", "bits"))
    resumed = seen.of.argument("adapter_name_or_path", "resume_adapter", "lora_weights", "peft_model_id")
    for fault, name, known, otherwise in (
        ("checkpointing-no-grad", "checkpointing", checkpointing, HINT),
        ("frozen-after-wrapping", "quantised", bits, SOME),
        ("loaded-frozen", "loaded", resumed, HINT),
    ):
        seen_as, weight = (name, STRONG) if known else ("no gradients", otherwise)
        yield sign(fault, seen_as, weight, seen=said, adapter=resumed)


@check("tensors")
def untouched(seen: Features) -> Iterator[Evidence]:
    """Look for weights that are still at their start, and compare with the log."""
    if not seen.untouched:
        if seen.starting:
            yield sign("optimizer-without-adapter", "moved", AGAINST)
        return
    name, (_, start) = next(iter(seen.starting.items()))
    said = f"all {len(seen.starting)} tensors such as '{name[-60:]}' are still {start:g} everywhere, as at the start"
    crashed = seen.line(r"(?:Error|Exception)\b.*:")
    if crashed is not None and not seen.losses:
        yield sign("never-trained", "crashed", HINT, seen=said, line=crashed[:100])
        return
    if not seen.losses:
        yield sign("never-trained", "at the start", PROOF, seen=said)
        return
    if seen.rates and max(seen.rates) == 0:
        return
    if seen.norms and not any(seen.norms):
        yield sign("never-trained", "at the start", HINT, seen=said)
    elif seen.curve is not None and seen.curve.fall > 0.1:
        yield sign("never-trained", "loss fell", PROOF, seen=said, start=seen.curve.start, end=seen.curve.end)
    elif seen.norms:
        yield sign("optimizer-without-adapter", "with gradients", PROOF, seen=said, norm=max(seen.norms))
        yield sign("never-trained", "at the start", SOME, seen=said)
    else:
        yield sign("never-trained", "at the start", STRONG, seen=said)
        yield sign("optimizer-without-adapter", "at the start", SOME, seen=said)


# ----------------------------------------
# Messages that libraries print, in their own words.


LONGEST = 160  # characters quoted of a message


@check("messages")
def said(seen: Features) -> Iterator[Evidence]:
    """Look for known messages, each once."""
    known = [(fault.name, message) for fault in all_faults().values() for message in fault.messages]
    for fault, message in known:
        line = seen.line(message.pattern)
        if line is not None:
            yield Evidence(fault, SIZES[message.weight], f"the log says “{line[:LONGEST]}”")


@check("messages")
def nothing_trained(seen: Features) -> Iterator[Evidence]:
    """Look for a count of trained parameters of zero, or a backward pass with nothing to do."""
    line = seen.line(r"trainable params: 0\b|does not require grad and does not have a grad_fn")
    if line is not None:
        yield from no_gradients(seen, f"the log says “{line[:LONGEST]}”")


# ----------------------------------------
# What is in the adapter file: names, shapes, and entries that are not numbers.


_A = re.compile(r"\.(?P<target>[\w-]+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")
_CLASSIFIES = "ForSequenceClassification"


@check("tensors")
def empty(seen: Features) -> Iterator[Evidence]:
    """Look for a file without tensors, or tensors without entries."""
    tensors = seen.of.tensors or {}
    hollow = [name for name, tensor in tensors.items() if tensor.size == 0]
    if not tensors:
        yield sign("empty-adapter", "no tensors", PROOF, size=seen.of.stored)
    elif hollow:
        words = {"empty": len(hollow), "tensors": len(tensors), "first": hollow[0]}
        yield sign("empty-adapter", "no entries", PROOF, **words)


@check("tensors")
def names(seen: Features) -> Iterator[Evidence]:
    """Look for key prefixes that no loader expects."""
    tensors = seen.of.tensors or {}
    compiled = [name for name in tensors if "_orig_mod." in name]
    if compiled:
        words = {"compiled": len(compiled), "tensors": len(tensors), "first": compiled[0]}
        yield sign("compiled-keys", "prefix", PROOF, **words)
    nested = [name for name in tensors if name.count("base_model.model.") > 1 or ".base_layer.lora_" in name]
    if nested:
        words = {"nested": len(nested), "tensors": len(tensors), "first": nested[0]}
        yield sign("wrapped-twice", "nested", PROOF, **words)


@check("tensors", "adapter")
def targets_without_tensors(seen: Features) -> Iterator[Evidence]:
    """Look for targets of the config that have no weights in the file, while others have."""
    tensors = seen.of.tensors or {}
    if not tensors or not seen.targets:
        return
    marks = {target: (f".{target}.", f"__{target.replace('.', '_')}.") for target in seen.targets}
    lost = [
        target
        for target, (path, flat) in marks.items()
        if not any(path in f".{name}" or flat in name for name in tensors)
    ]
    if lost and len(lost) < len(seen.targets):
        quoted = ", ".join(f"'{name}'" for name in lost)
        yield sign("target-partly-misspelt", "no tensor", PROOF, names=quoted)


@check("tensors", "adapter")
def head(seen: Features) -> Iterator[Evidence]:
    """Look for a classifier whose head is not in the file."""
    adapter, tensors = seen.of.adapter or {}, seen.of.tensors or {}
    if not tensors or seen.head:
        return
    mapping = adapter.get("auto_mapping")
    built = str(mapping.get("base_model_class")) if isinstance(mapping, dict) else ""
    said = (
        f"the base is a {built}" if _CLASSIFIES in built
        else "task_type is SEQ_CLS" if adapter.get("task_type") == "SEQ_CLS"
        else ""
    )  # fmt: skip
    if said:
        yield sign("head-not-saved", "no head", PROOF, seen=said, tensors=len(tensors))


@check("tensors", "adapter")
def shapes(seen: Features) -> Iterator[Evidence]:
    """Compare the sizes of LoRA's matrices with the base that the config names."""
    base, tensors = seen.base, seen.of.tensors or {}
    if base is None or (seen.of.adapter or {}).get("peft_type") not in ("LORA", "ADALORA"):
        return
    sides: dict[str, set[tuple[int, ...]]] = {}
    for group in base.matrices:
        weight = group.parameters.get("weight")
        if weight is not None:
            sides.setdefault(group.path.rsplit(".", 1)[-1], set()).add(tuple(weight))
    for name, tensor in tensors.items():
        found = _A.search(name)
        if found is None or found["target"] not in sides or len(tensor.shape) != 2 or not tensor.size:
            continue
        place = 1 if found["side"] == "A" else 0
        fitting = {weight[1 if place else 0] for weight in sides[found["target"]]}
        if tensor.shape[place] not in fitting:
            wanted = " or ".join(map(str, sorted(fitting)))
            side = "inputs" if place else "outputs"
            words = {"name": name[-70:], "size": tensor.shape[place], "side": side, "wanted": wanted}
            yield sign("wrong-base", "shape", PROOF, base=base.title, **words)
            return


@check("tensors", "adapter")
def depth(seen: Features) -> Iterator[Evidence]:
    """Look for layers that the base does not have."""
    base, tensors = seen.base, seen.of.tensors or {}
    numbers = [int(found[1]) for name in tensors if (found := re.search(r"\.layers?\.(\d+)\.", name))]
    if base is not None and base.num_layers and numbers and max(numbers) >= base.num_layers:
        words = {"layer": max(numbers), "base": base.title, "layers": base.num_layers}
        yield sign("wrong-base", "depth", PROOF, **words)


@check("tensors", "tokens")
def vocabulary(seen: Features) -> Iterator[Evidence]:
    """Look for more tokens than the base has rows for, without an embedding in the file."""
    length = seen.of.tokens.length if seen.of.tokens else None
    if seen.base is None or not length or length <= seen.base.vocab or not seen.of.tensors or seen.embedded:
        return
    words = {"tokens": length, "base": seen.base.title, "rows": seen.base.vocab}
    yield sign("vocabulary-not-saved", "more tokens", PROOF, **words)


@check("tensors")
def numbers(seen: Features) -> Iterator[Evidence]:
    """Look for entries that are not numbers, and for weights in 16 bits."""
    tensors = seen.of.tensors or {}
    broken = [name for name, tensor in tensors.items() if tensor.finite < 1]
    half = sum(tensor.dtype == "F16" for tensor in tensors.values())
    if broken:
        words = {"broken": len(broken), "tensors": len(tensors), "half": half}
        yield sign("fp16-weights", "broken entries", STRONG if half else SOME, **words)
        yield sign("all-masked", "broken entries", SOME, **words)
        yield sign("rate-too-high", "broken entries", SLIGHT, **words)
    elif half:
        yield sign("fp16-weights", "sixteen bits", SLIGHT, half=half, tensors=len(tensors))


# ----------------------------------------
# How the learning rate changes from the first step to the last.


_ENDED = 0.2  # share of the logged rows that, at the end, have rate 0: from it on a schedule ended early
_REACHED = 0.9  # of the configured rate or number of steps


@check("arguments")
def warm_up(seen: Features) -> Iterator[Evidence]:
    """Look for a warm-up as long as the run, or longer; a value below 1 is a share of the run, under either name."""
    given, steps = seen.number("warmup_steps") or 0.0, seen.steps or seen.last_step
    share = given if 0 < given < 1 else seen.number("warmup_ratio") or 0.0
    if given < 1 and share > 0.5:
        yield sign("warm-up-too-long", "share", PROOF if share >= _REACHED else SOME, share=share)
    if given >= 1 and steps and given >= _REACHED * steps:
        sure = STRONG if seen.steps or given > 5 * steps else SOME  # the log may end before the run
        yield sign("warm-up-too-long", "steps", sure, warmup=given, steps=steps)


@check("rows")
def rising(seen: Features) -> Iterator[Evidence]:
    """Look for a rate that rises until the end."""
    if not seen.rising:
        return
    last, asked = seen.rates[-1], seen.number("learning_rate", "lr")
    words = {
        "first": seen.rates[0],
        "last": last,
        "asked": asked,
        "step": seen.last_step,
        "steps": seen.steps,
    }
    if asked and last < _REACHED * asked:
        yield sign("warm-up-too-long", "below", PROOF, **words)
    elif seen.steps and seen.last_step < _REACHED * seen.steps:
        yield sign("warm-up-too-long", "not over", HINT, **words)
    else:
        yield sign("warm-up-too-long", "rising", STRONG if seen.steps is None else PROOF, **words)


@check("rows")
def over_early(seen: Features) -> Iterator[Evidence]:
    """Look for a rate that is always 0, 0 from some step on, or a small part of the configured one."""
    if len(seen.rates) < 3:
        return
    top, asked, count = max(seen.rates), seen.number("learning_rate", "lr"), len(seen.rates)
    ended = next((number for number, rate in enumerate(reversed(seen.rates)) if rate), count)
    if top == 0:
        yield sign("rate-stays-zero", "always", PROOF, rows=count)
    elif ended >= max(3, _ENDED * count):
        yield sign("rate-stays-zero", "at the end", PROOF, last=ended, rows=count)
    elif asked and top < asked / 20 and not seen.rising:
        yield sign("rate-stays-zero", "much lower", PROOF, asked=asked, top=top)
