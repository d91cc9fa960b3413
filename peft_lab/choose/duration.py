"""How long a training takes, from its arithmetic and a card's data sheet: a range, as no step was timed."""

from __future__ import annotations

from peft_lab.choose.room import Step
from peft_lab.models.shapes import ModelShape

#: Dense 16-bit tensor-core operations a second, summed in float32 where the sheet tells them apart.
FLOPS = {
    "t4": 65e12, "rtx-3060": 51e12, "rtx-4090": 165e12, "rtx-5090": 210e12, "a10": 125e12, "l4": 121e12,
    "rtx-6000-ada": 364e12, "l40s": 362e12, "a100-40": 312e12, "a100-80": 312e12, "h100": 989e12, "h200": 989e12,
}  # fmt: skip
#: Share of it that trainings reach: assumed here. Tuned code on long rows comes near the upper end
#: (PaLM, section 4.1).
REACHED = (0.10, 0.55)
#: Operations for each parameter and token: forward 2, through to the inputs 2, to the weights 2 (Kaplan et al., 2.1).
FORWARD, INPUTS, WEIGHTS = 2, 2, 2
#: How much longer, assumed here too: four bits are rebuilt for every product; what is split waits for the others; main
#: memory is slow.
FOUR_BITS, SPLIT, OFFLOAD = (1.2, 2.0), (1.05, 2.0), (2.0, 10.0)


def seconds(
    shape: ModelShape, method: str, step: Step, device: str, devices: int, tokens: float
) -> tuple[float, float] | None:
    """Seconds for so many tokens, at least and at most; ``None`` for a device of which no speed is known."""
    speed = FLOPS.get(device)
    if speed is None:
        return None
    each = FORWARD + INPUTS + (WEIGHTS if method == "full" else 0) + (FORWARD if step.checkpointing else 0)
    low, high = (each * shape.total * tokens / (speed * devices * share) for share in reversed(REACHED))
    for applies, (least, most) in (
        (method == "qlora", FOUR_BITS),
        (step.estimated, SPLIT),
        (step.host > 0, OFFLOAD),
    ):
        if applies:
            low, high = low * least, high * most
    return low, high


def span(low: float, high: float) -> str:
    """Both ends in one unit, to two digits, as a sentence would have them.

    >>> span(1450, 7975), span(30, 200), span(90_000, 4e6)
    ('0.4 to 2.2 hours', '0.5 to 3.3 minutes', '1 to 46 days')
    """
    unit, each = next(
        (name, size)
        for name, size in (("days", 86_400), ("hours", 3600), ("minutes", 60))
        if high >= size or size == 60
    )
    return " to ".join(f"{float(f'{end / each:.2g}'):,g}" for end in (low, high)) + f" {unit}"
