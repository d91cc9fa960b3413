"""An adapted tiny model beside its base, and what counts as equal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peft_lab.atlas.base import AtlasType
from peft_lab.atlas.live import attach, inputs_for
from tools.atlas_probe import tiny

if TYPE_CHECKING:
    import torch

EQUAL = 1e-4  # largest relative difference of logits that counts as rounding in float32


class No(Exception):
    """The capability is not there, with the reason as a sentence."""


@dataclass
class Held:
    """An adapted tiny model with what is needed to compare.

    Attributes:
        base: logits of the bare model, (rows, tokens, vocabulary).
        inputs: what the adapted model reads.
    """

    entry: AtlasType
    model: Any
    base: torch.Tensor
    inputs: dict[str, Any]
    numbers: dict[str, float] = field(default_factory=dict)

    def logits(self, **more: Any) -> torch.Tensor:
        """Of the text's own tokens, (rows, tokens, vocabulary)."""
        import torch

        self.model.eval()
        with torch.no_grad():
            plain = {name: value for name, value in self.inputs.items() if name != "labels"}
            found: torch.Tensor = self.model(**{**plain, **more}).logits
        return found[:, -self.base.shape[1] :].float()


def hold(
    entry: AtlasType,
    architecture: str = "llama",
    bits: int = 16,
    moved: bool = True,
    dtype: str = "float32",
    seed: int = 1,
    rows: int = tiny.ROWS,
    **changes: Any,
) -> Held:
    """A tiny model with the type on it; ``moved``: its trained parameters are no longer where they start; ``seed``: of
    the type's start; ``rows``: of what it reads."""
    import torch

    model, shape = tiny.build(architecture, bits, dtype)
    batch = tiny.batch(rows)
    with torch.no_grad():
        base = model(**batch).logits.float()
    torch.manual_seed(seed)
    adapted = attach(
        model, entry, shape, "SEQ_2_SEQ_LM" if architecture == "t5" else "CAUSAL_LM", batch, **changes
    )
    held = Held(entry, adapted.eval(), base, inputs_for(entry, batch))
    if moved:
        move(adapted)
    return held


def move(model: Any, seed: int = 5, only: str = "") -> None:
    """Shift every trained parameter (of the adapter ``only``) by noise of a tenth of its size (at least 0.03)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            chosen = f".{only}" in name if only else value.requires_grad
            if chosen and value.is_floating_point():
                spread = max(0.1 * float(value.float().abs().mean()), 0.03)
                value.add_(torch.randn(value.shape, generator=generator).to(value) * spread)


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, as a share of the largest entry."""
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))


def want_equal(found: torch.Tensor, wanted: torch.Tensor, what: str, limit: float = EQUAL) -> float:
    off = apart(found, wanted)
    if not off <= limit:
        raise No(f"{what}: logits are off by up to {100 * off:.3g}% of the largest.")
    return off
