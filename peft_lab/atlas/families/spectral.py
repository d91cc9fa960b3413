"""Types that train coefficients of a transform of ΔW."""

from __future__ import annotations

import math

from peft_lab.atlas.base import AtlasType, Paper, Usual, target_names
from peft_lab.models.shapes import ModelShape


def _common_side(shape: ModelShape) -> int:
    """The greatest common divisor of the adapted matrices' sides, as C3A's documentation advises."""
    groups = shape.match(target_names(shape, ("q", "v"))).groups
    return math.gcd(*(side for group in groups for side in (group.in_features, group.out_features)))


FOURIERFT = AtlasType(
    type="FOURIERFT",
    title="FourierFT",
    family="spectral",
    parent="",
    update="W + s·Re(F⁻¹(C)), with n trained entries of C at random places",
    paper=Paper("Gao et al. 2024, FourierFT", "PEFT 0.21, FourierFTConfig", "2405.03003"),
    knobs=(
        Usual("n_frequency", (1000, 3000), "Trained coefficients a matrix."),
        Usual("scaling", (150.0, 300.0), "Scales ΔW; 300 for Llama models in the config's own help."),
    ),
    differs="It starts the line: each trained number is a wave over the whole of ΔW.",
    when="When a few thousand numbers a matrix have to change all of it.",
    form="n per matrix",
    each=lambda m, c: c["n_frequency"],
    rate=1e-1,
)
WAVEFT = AtlasType(
    type="WAVEFT",
    title="WaveFT",
    family="spectral",
    parent="FOURIERFT",
    update="W + s·IDWT(C), with n trained wavelet coefficients at random places",
    paper=Paper("Bilican et al. 2025, WaveFT", "PEFT documentation, WaveFT; arXiv abstract", "2505.12532"),
    knobs=(
        Usual("n_frequency", (2592, 1000), "Trained coefficients a matrix."),
        Usual("scaling", (25.0, 10.0), "Scales ΔW."),
    ),
    differs="Wavelets instead of waves: each number changes a patch of ΔW.",
    when="For personalised picture models at very small counts.",
    form="n per matrix",
    each=lambda m, c: c["n_frequency"],
    rate=1e-2,
)
C3A = AtlasType(
    type="C3A",
    title="C³A",
    family="spectral",
    parent="",
    update="W + a grid of circulant blocks, each a circular convolution with a trained kernel",
    paper=Paper("Chen et al. 2024, C³A", "PEFT documentation, C3A", "2407.19342"),
    knobs=(),
    settings={"block_size": _common_side},
    differs="Every block repeats one kernel shifted by one: full rank from one row of numbers.",
    when="When a high rank is wanted at a small count; it takes rates near 0.1.",
    form="d_in·d_out/b per matrix",
    each=lambda m, c: m.in_features * m.out_features // c["block_size"],
    rate=1e-1,
)
ENTRIES = (FOURIERFT, WAVEFT, C3A)
