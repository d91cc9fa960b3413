"""What the source text says about QLoRA alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from peft_lab.claims.base import Found, Subject, counted
from peft_lab.claims.figures import share
from peft_lab.claims.judge import both
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.fits import separate_attention, takes

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


CLAIMS = (
    counted(
        id="qlora-share", topic="qlora", check=_qlora_share, fits=_quantised, model="llama-3.1-70b",
        claim="QLoRA trains 0.1 to 1% of the parameters.", quote="QLoRA | 0.1–1%",
    ),
)  # fmt: skip
