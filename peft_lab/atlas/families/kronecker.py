"""Types that reach a high rank by products entry by entry (Hadamard) or block by block (Kronecker)."""

from __future__ import annotations

from peft_lab.atlas.base import AtlasType, Paper, Settings, Usual
from peft_lab.models.structure import ModuleGroup


def _factors(size: int, factor: int = -1) -> tuple[int, int]:
    """The two factors of a side, smaller first: as near to its root as PEFT's LoKr takes them."""
    if factor > 0 and size % factor == 0:
        return min(factor, size // factor), max(factor, size // factor)
    limit = factor if factor != -1 else size
    best, large = 1, size
    while best < large:
        step = next((at for at in range(best + 1, large + 1) if size % at == 0), size)
        other = size // step
        if best + large < step + other or step > limit:
            break
        best, large = step, other
    return min(best, large), max(best, large)


def _lokr(m: ModuleGroup, c: Settings) -> int:
    near = c.get("decompose_factor", -1)
    (out_small, out_large), (in_small, in_large) = (
        _factors(n, near) for n in (m.out_features, m.in_features)
    )
    rank = c["r"]
    second = rank * (out_large + in_large) if rank < max(out_large, in_large) / 2 else out_large * in_large
    return out_small * in_small + second


LOHA = AtlasType(
    type="LOHA",
    title="LoHa",
    family="kronecker",
    parent="LORA",
    update="W + (α/r)·(B₁·A₁) ⊙ (B₂·A₂)",
    paper=Paper("Hyeon-Woo et al. 2021, FedPara", "PEFT 0.21, tuners/loha", "2108.06098"),
    knobs=(
        Usual("r", (8, 16), "Rank of each product; ΔW's is at most its square."),
        Usual("alpha", (8, 16), "Scales ΔW by alpha / r."),
    ),
    differs="Two low-rank products are multiplied entry by entry: rank up to r² for twice the count.",
    when="For styles and concepts of picture models; in text it is rarely better than LoRA.",
    form="2·r·(d_in + d_out) per matrix",
    each=lambda m, c: 2 * c["r"] * (m.in_features + m.out_features),
)
LOKR = AtlasType(
    type="LOKR",
    title="LoKr",
    family="kronecker",
    parent="LOHA",
    update="W + (α/r)·C ⊗ (B·A)",
    paper=Paper("Yeh et al. 2023, LyCORIS", "PEFT 0.21, tuners/lokr", "2309.14859"),
    knobs=(
        Usual("r", (8, 16), "Rank of the larger factor."),
        Usual("alpha", (8, 16), "Scales ΔW by alpha / r."),
    ),
    differs="A Kronecker product of a small matrix and a low-rank one: every block of ΔW is a multiple of one block.",
    when="For very small files at a high rank.",
    form="small factors of both sides, and r·(large factors) per matrix",
    each=_lokr,
)
HIRA = AtlasType(
    type="HIRA",
    title="HiRA",
    family="kronecker",
    parent="LORA",
    update="W + W ⊙ (B·A)",
    paper=Paper(
        "Huang et al. 2025, HiRA, ICLR",
        "PEFT documentation, HiRA",
        url="https://openreview.net/forum?id=TwJrTz9cRS",
    ),
    knobs=(Usual("r", (32, 16), "Rank of the factor; ΔW itself is of higher rank."),),
    differs="The product multiplies W entry by entry instead of being added, so ΔW can have full rank.",
    when="When LoRA's rank seems to be the limit and the count has to stay.",
    form="r·(d_in + d_out) per matrix",
    each=lambda m, c: c["r"] * (m.in_features + m.out_features),
)
ENTRIES = (LOHA, LOKR, HIRA)
