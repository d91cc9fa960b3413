"""Examine a run's files for the faults' signs: figures of what was given, and rules that name them.

A rule stands with its fault in ``interview/content/clinic``: ``says`` what is seen, ``when``, and of which ``weight``.
It may use the names that the functions here return for each kind of input. A rule that names something of an input that
was not given, or compares a figure that the files do not show (None), does not hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from peft_lab.interview.clinic import faults
from peft_lab.interview.clinic.faults import SIZES, Evidence, all_faults
from peft_lab.interview.clinic.reading import Features

#: The inputs, in words.
Needs = Literal["adapter", "arguments", "rows", "messages", "tensors", "tokens"]
NEEDS: dict[Needs, str] = {
    "adapter": "the adapter's config",
    "arguments": "the training arguments",
    "rows": "the losses",
    "messages": "the console output",
    "tensors": "the adapter's weights",
    "tokens": "the tokenizer's files",
}
LONGEST = 160  # characters quoted of a message

#: Initialisations that subtract the adapter's start from the base's weights.
MOVING = ("pissa", "olora", "corda")
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
_A = re.compile(r"\.(?P<target>[\w-]+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")
_CLASSIFIES = "ForSequenceClassification"
_NO_TRAINING = r"trainable params: 0\b|does not require grad and does not have a grad_fn"

#: What the weights of rules may name, beside numbers.
CONSTANTS: Mapping[str, Any] = {
    **{name: vars(faults)[name] for name in ("PROOF", "STRONG", "SOME", "HINT", "SLIGHT", "AGAINST")},
    **{function.__name__: function for function in (abs, len, max, min, math.log)},
}


def examine(seen: Features) -> Iterator[Evidence]:
    """Yield every sign of a fault, or against one: by the rules, then known messages of libraries, each once."""
    names = figures(seen)
    for fault in all_faults().values():
        for rule in fault.evidence.values():
            try:
                if rule.value(rule.when, names):
                    text = rule.says.format_map(names)
                    yield Evidence(fault.name, rule.value(rule.weight, names), text)
            except (NameError, TypeError):  # of an input that was not given; a figure that is not known
                continue
        for message in fault.messages:
            if (line := seen.line(message.pattern)) is not None:
                yield Evidence(fault.name, SIZES[message.weight], f"the log says “{line[:LONGEST]}”")


def figures(seen: Features) -> dict[str, Any]:
    """Return what rules may name of the inputs that were given."""
    of, names = seen.of, {**CONSTANTS, **_gradients(seen)}
    for given, read in (
        ((of.adapter,), _of_adapter),
        ((of.arguments,), _of_arguments),
        ((of.rows,), _of_rows),
        ((of.rows, of.arguments), _accumulation),
        ((of.tokens,), _of_tokens),
        ((of.tensors,), _of_tensors),
        ((of.tensors, of.adapter), _of_tensors_and_adapter),
        ((of.tensors, of.tokens), _vocabulary),
    ):
        if all(each is not None for each in given):
            names |= read(seen)
    return names


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _of_adapter(seen: Features) -> dict[str, Any]:
    """Return what the adapter's config states: α, the start, and targets that are no modules of the base."""
    adapter, base, targets = seen.of.adapter or {}, seen.base, seen.targets
    start = adapter.get("init_lora_weights")  # PEFT writes true here after conversion to a plain LoRA
    lost = list(base.match(list(targets)).unmatched) if base is not None and targets else []
    return {
        "alpha": adapter.get("lora_alpha"),
        "r": adapter.get("r"),
        "initialisation": start,
        "moves_the_base": isinstance(start, str) and start.lower().startswith(MOVING),
        "base": base.title if base is not None else None,
        "lost": _quoted(lost),
        "lost_share": len(lost) / len(targets) if targets else 0,
    }


def _of_arguments(seen: Features) -> dict[str, Any]:
    """Return what training arguments of Trainer, TRL, Axolotl, Alpaca-LoRA and others state."""
    arguments = seen.of.arguments or {}
    masks = ("completion_only_loss", "assistant_only_loss", "mask_prompt")
    unmasked = [f"{name} is false" for name in masks if arguments.get(name) is False]
    unmasked += ["train_on_inputs is true"] if arguments.get("train_on_inputs") is True else []
    dtype = str(seen.of.argument("torch_dtype", "dtype", "model_dtype"))
    warmup = seen.number("warmup_steps") or 0.0  # below 1 it is a share of the run, under either name
    return {
        "unmasked": unmasked,
        "unmasked_flags": " and ".join(unmasked),
        "limit": seen.number("generation_max_length", "max_new_tokens"),
        "dtype": dtype,
        # mixed precision alone (fp16=True) keeps what is trained in fp32
        "half": dtype.removeprefix("torch.") in ("float16", "fp16", "half"),
        "fp16": seen.yes("fp16"),
        "warmup": warmup,
        "warmup_share": warmup if 0 < warmup < 1 else seen.number("warmup_ratio") or 0.0,
        "run": seen.steps or seen.last_step,
        "planned": bool(seen.steps),
    }


def _of_rows(seen: Features) -> dict[str, Any]:
    """Return what the logged losses, lengths and learning rates show."""
    losses, rates, curve = seen.losses, seen.rates, seen.curve
    lengths = [row.gen_len for row in seen.of.rows or () if row.gen_len is not None]
    found: dict[str, Any] = dict.fromkeys(("start", "end", "best", "top", "noise", "fall", "spread", "rose"))
    if curve is not None:
        found = {name: getattr(curve, name) for name in ("start", "end", "best", "top", "noise", "fall")}
        # the usual variation of the mean over a fifth of the losses
        found["spread"] = 3 * curve.noise / math.sqrt(max(2, len(curve.losses) // 5))
        found["rose"] = curve.end > 1.15 * curve.start + found["spread"]
        found["climbed"] = not found["rose"] and (
            curve.end > 1.5 * curve.best + found["spread"] and curve.end > 0.5 * curve.start
        )
    low, high = BANDS.get(seen.method, (None, None))
    configured = low is not None and seen.rate and not (seen.rising and seen.rate == max(rates))
    # Trainer logs an exact 0 instead of NaN
    bad = [number for number, loss in enumerate(losses) if not math.isfinite(loss) or loss == 0]
    first = bad[0] if bad else 0
    lasts, judged = bad == list(range(first, len(losses))), bool(bad) and len(losses) >= 3
    asked = seen.number("learning_rate", "lr")
    return found | {
        "known_curve": curve is not None,
        "learned": curve is not None and curve.fall > 0.15,
        "length": lengths[-1] if lengths else None,
        "rate": seen.rate if configured else None,
        "method": seen.method,
        "low": low,
        "high": high,
        "lost_from": None
        if not judged
        else "the start"
        if lasts and not first
        else "a step"
        if lasts
        else "times",
        "what": None if not bad else "NaN" if math.isnan(losses[first]) else f"{losses[first]:g}",
        "before": losses[first - 1] if first else None,
        "step": first + 1,
        "bad": len(bad),
        "losses": len(losses),
        "rising": seen.rising,
        "first_rate": rates[0] if rates else None,
        "last_rate": rates[-1] if rates else None,
        "top_rate": max(rates) if len(rates) >= 3 else None,
        "rows": len(rates),
        "ended": next((number for number, rate in enumerate(reversed(rates)) if rate), len(rates)),
        "asked": asked,
        "below_asked": bool(asked and rates and rates[-1] < 0.9 * asked),
        "last_step": seen.last_step,
        "steps": seen.steps,
        "over": not (seen.steps and seen.last_step < 0.9 * seen.steps),
    }


def _accumulation(seen: Features) -> dict[str, Any]:
    """Return how training and evaluation loss, or that of a random guess, compare over accumulated passes."""
    passes, curve = seen.number("gradient_accumulation_steps") or 1, seen.curve
    evals = [row.eval_loss for row in seen.of.rows or () if row.eval_loss is not None]
    first = seen.losses[0] if passes >= 2 and seen.losses and math.isfinite(seen.losses[0]) else None
    evaluated = evals[-1] if evals and math.isfinite(evals[-1]) and evals[-1] > 0 else None
    ratio = curve.end / evaluated if first is not None and evaluated and curve is not None else None
    guessing = seen.base is not None and seen.base.kind == "causal-lm"
    vocabulary = seen.base.vocab if seen.base is not None and guessing else None
    return {
        "passes": passes,
        "first_loss": first,
        "evaluated": evaluated,
        "ratio": ratio,
        "as_many": ratio is not None and 0.65 * passes < ratio < 1.5 * passes,
        "guessed_tokens": vocabulary,
        "guess": math.log(vocabulary) if vocabulary else None,
    }


def _gradients(seen: Features) -> dict[str, Any]:
    """Return what is said of gradients that are all zero while there is a loss, and what else is known of such runs."""
    said = []
    if (
        len(seen.norms) >= 3
        and seen.curve is not None
        and not any(seen.norms)
        and seen.of.adapter is not None
    ):
        loss = f"with a loss of {seen.curve.end:.3g}"
        said.append(f"grad_norm is 0 in all {len(seen.norms)} logged rows, {loss}")
    if (line := seen.line(_NO_TRAINING)) is not None:
        said.append(f"the log says “{line[:LONGEST]}”")
    reentrant = seen.of.argument("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs")
    safe = isinstance(reentrant, dict) and reentrant.get("use_reentrant") is False
    names = ("gradient_checkpointing", "activation_checkpointing", "use_gradient_checkpointing")
    return {
        "gradless": said,
        "no_gradients": "; ".join(said),
        "checkpointing": seen.yes(*names) and not safe,
        "quantised": seen.yes("load_in_4bit", "load_in_8bit")
        or bool(seen.of.argument("quantization_bit", "bits")),
        "resumed": seen.of.argument(
            "adapter_name_or_path", "resume_adapter", "lora_weights", "peft_model_id"
        ),
    }


def _of_tokens(seen: Features) -> dict[str, Any]:
    """Return whether pad and end token are one: common, and harmful only if the collator masks by the token."""
    tokens = seen.of.tokens
    same = tokens is not None and tokens.pad is not None and tokens.pad == tokens.eos
    collator = str(seen.of.argument("data_collator"))
    masks = collator == "DataCollatorForLanguageModeling"
    return {"token": tokens.pad if tokens else None, "same_token": same, "collator": collator, "masks": masks}


def _of_tensors(seen: Features) -> dict[str, Any]:
    """Return what is in the adapter file: names, entries that are no numbers, and weights still at their start."""
    tensors = seen.of.tensors or {}
    keys = {
        "hollow": [name for name, tensor in tensors.items() if tensor.size == 0],
        "compiled": [name for name in tensors if "_orig_mod." in name],
        "nested": [
            name for name in tensors if name.count("base_model.model.") > 1 or ".base_layer.lora_" in name
        ],
    }
    crashed = seen.line(r"(?:Error|Exception)\b.*:")
    still, moved = "", bool(seen.starting) and not seen.untouched
    if seen.untouched:
        name, (_, start) = next(iter(seen.starting.items()))
        some = f"all {len(seen.starting)} tensors such as '{name[-60:]}'"
        still = f"{some} are still {start:g} everywhere, as at the start"
    fell = seen.curve is not None and seen.curve.fall > 0.1
    return {
        "size": seen.of.stored,
        "tensors": len(tensors),
        **{f"{kind}_keys": len(names) for kind, names in keys.items()},
        **{f"first_{kind}": names[0] for kind, names in keys.items() if names},
        "broken": sum(tensor.finite < 1 for tensor in tensors.values()),
        "halves": sum(tensor.dtype == "F16" for tensor in tensors.values()),
        "moved": moved,
        "still": still,
        "crash": (crashed or "")[:100],
        "norm": max(seen.norms, default=None),
        # what the log says of a run whose weights are still at their start
        "still_after": "" if not still else "a crash" if crashed is not None and not seen.losses
        else "nothing" if not seen.losses else "no rate" if seen.rates and max(seen.rates) == 0
        else "no gradients" if seen.norms and not any(seen.norms) else "a fall" if fell
        else "gradients" if seen.norms else "losses",
    }  # fmt: skip


def _of_tensors_and_adapter(seen: Features) -> dict[str, Any]:
    """Return where the file differs from the config and its base: targets, head, shapes and layers."""
    adapter, tensors, base = seen.of.adapter or {}, seen.of.tensors or {}, seen.base
    marks = {target: (f".{target}.", f"__{target.replace('.', '_')}.") for target in seen.targets}
    lost = [
        target
        for target, (path, flat) in marks.items()
        if tensors and not any(path in f".{name}" or flat in name for name in tensors)
    ]
    mapping = adapter.get("auto_mapping")
    built = str(mapping.get("base_model_class")) if isinstance(mapping, dict) else ""
    headed = f"the base is a {built}" if _CLASSIFIES in built else ""
    if not headed and adapter.get("task_type") == "SEQ_CLS":
        headed = "task_type is SEQ_CLS"
    layers = [int(found[1]) for name in tensors if (found := re.search(r"\.layers?\.(\d+)\.", name))]
    return {
        "untensored": _quoted(lost),
        "untensored_share": len(lost) / len(marks) if marks else 0,
        "headless": headed if tensors and not seen.head else "",
        "layer": max(layers, default=None),
        "layers": base.num_layers or None if base is not None else None,
        **_misshapen(seen),
    }


def _misshapen(seen: Features) -> dict[str, Any]:
    """Return the first of LoRA's matrices whose size no map of its name in the base has."""
    sides: dict[str, set[tuple[int, ...]]] = {}
    if seen.base is not None and (seen.of.adapter or {}).get("peft_type") in ("LORA", "ADALORA"):
        for group in seen.base.matrices:
            if (weight := group.parameters.get("weight")) is not None:
                sides.setdefault(group.path.rsplit(".", 1)[-1], set()).add(tuple(weight))
    for name, tensor in (seen.of.tensors or {}).items():
        found = _A.search(name)
        if found is None or found["target"] not in sides or len(tensor.shape) != 2 or not tensor.size:
            continue
        place = 1 if found["side"] == "A" else 0
        fitting = {weight[place] for weight in sides[found["target"]]}
        if tensor.shape[place] not in fitting:
            wanted, side = " or ".join(map(str, sorted(fitting))), "inputs" if place else "outputs"
            return {"misshapen": name[-70:], "found": tensor.shape[place], "side": side, "wanted": wanted}
    return {"misshapen": ""}


def _vocabulary(seen: Features) -> dict[str, Any]:
    """Return the tokens beside the base's rows, where no saved tensor is an embedding."""
    length = seen.of.tokens.length if seen.of.tokens else None
    base = seen.base if seen.of.tensors and not seen.embedded else None
    title, rows = (base.title, base.vocab) if base is not None else (None, None)
    return {"all_tokens": length, "rows_of": title, "embedding_rows": rows}
