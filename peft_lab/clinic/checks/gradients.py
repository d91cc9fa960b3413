"""Whether anything was trained: norms of gradients beside what the adapter's weights became."""

from __future__ import annotations

import re
from collections.abc import Iterator

from peft_lab.clinic.evidence import AGAINST, HINT, PROOF, SOME, STRONG, Evidence, check
from peft_lab.clinic.features import Features


@check("rows")
def norms(seen: Features) -> Iterator[Evidence]:
    """No gradient at all, while there is a loss."""
    if len(seen.norms) < 3 or seen.curve is None or any(seen.norms) or seen.of.adapter is None:
        return
    said = f"grad_norm is 0 in all {len(seen.norms)} logged rows, with a loss of {seen.curve.end:.3g}"
    yield from no_gradients(seen, said)


def no_gradients(seen: Features, said: str) -> Iterator[Evidence]:
    """What makes gradients vanish, told apart by what else is known."""
    reentrant = seen.of.argument("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs")
    checkpointing = seen.yes(
        "gradient_checkpointing", "activation_checkpointing", "use_gradient_checkpointing"
    ) and not (isinstance(reentrant, dict) and reentrant.get("use_reentrant") is False)
    bits = seen.yes("load_in_4bit", "load_in_8bit") or bool(seen.of.argument("quantization_bit", "bits"))
    resumed = seen.of.argument("adapter_name_or_path", "resume_adapter", "lora_weights", "peft_model_id")
    yield Evidence(
        "checkpointing-no-grad", STRONG if checkpointing else HINT,
        said + ("; gradient_checkpointing is true" if checkpointing else ""),
    )  # fmt: skip
    yield Evidence(
        "frozen-after-wrapping", STRONG if bits else SOME,
        said + ("; the base is quantised, so it is prepared for training" if bits else ""),
    )  # fmt: skip
    yield Evidence(
        "loaded-frozen", STRONG if resumed else HINT,
        said + (f"; the adapter was loaded from '{resumed}'" if resumed else ""),
    )  # fmt: skip


@check("tensors")
def untouched(seen: Features) -> Iterator[Evidence]:
    """Weights that are where they began, and what the log says to it."""
    if not seen.untouched:
        if seen.starting:
            yield Evidence("optimizer-without-adapter", AGAINST, "the adapter's weights have moved")
        return
    name, (_, start) = next(iter(seen.starting.items()))
    said = f"all {len(seen.starting)} tensors such as '{name[-60:]}' are still {start:g} everywhere, as at the start"
    crashed = next(
        (line for line in seen.of.messages or () if re.search(r"(?:Error|Exception)\b.*:", line)), None
    )
    if crashed is not None and not seen.losses:
        yield Evidence("never-trained", HINT, f"{said}; the run ended in “{crashed[:100]}”")
        return
    if not seen.losses:
        yield Evidence("never-trained", PROOF, said)
        return
    if seen.rates and max(seen.rates) == 0:
        return
    if seen.norms and not any(seen.norms):
        yield Evidence("never-trained", HINT, said)
    elif seen.curve is not None and seen.curve.fall > 0.1:
        yield Evidence(
            "never-trained",
            PROOF,
            f"{said}, but the loss fell from {seen.curve.start:.3g} to {seen.curve.end:.3g}: "
            "this is not what was trained",
        )
    elif seen.norms:
        yield Evidence(
            "optimizer-without-adapter", PROOF, f"{said}, though grad_norm is up to {max(seen.norms):.3g}"
        )
        yield Evidence("never-trained", SOME, said)
    else:
        yield Evidence("never-trained", STRONG, said)
        yield Evidence("optimizer-without-adapter", SOME, said)
