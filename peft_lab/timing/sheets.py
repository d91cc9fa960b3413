"""What data sheets say of GPUs: the most that they do and move in a second."""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab.errors import UnknownName

TERA, GIGA, MIB = 1e12, 1e9, 2**20


@dataclass(frozen=True)
class Sheet:
    """A GPU's data sheet.

    Attributes:
        matmul16: dense 16-bit products summed in 32 bits, operations a second. matmul32: 32 bits, no tensor cores.
        memory: bytes a second. cache: bytes of the last cache. units: multiprocessors. clock: of the cores at most, in
            hertz. power: watts, its limit.
        source: where it is printed. Of these the L40S's sheet was read, and A100's and H100's rates in Bekman's table;
            the others still have to be held against the document.
        best16: what the best product of 16-bit matrices reached where somebody measured it (:data:`MEASURED`), else 0.
    """

    matmul16: float
    matmul32: float
    memory: float
    cache: float
    units: int
    clock: float
    power: float
    source: str
    best16: float = 0.0


def _sheet(
    half: float, single: float, memory: float, cache: float, units: int, clock: float, power: float, source: str,
    best: float = 0.0,
) -> Sheet:  # fmt: skip
    """From teraflops, gigabytes a second, MiB, multiprocessors, megahertz and watts, as sheets print them."""
    return Sheet(
        half * TERA, single * TERA, memory * GIGA, cache * MIB, units, clock * 1e6, power, source, best * TERA
    )


#: Who measured the best products: A100 and H100 in Bekman's Machine Learning Engineering, table of maximum achievable
#: matmul FLOPS (github.com/stas00/ml-engineering, compute/accelerator); RTX 4090 in github.com/xytpai/gpuk.
MEASURED = "stas00/ml-engineering, compute/accelerator; xytpai/gpuk"
_TURING = "NVIDIA T4 data sheet; Turing architecture whitepaper"
_AMPERE = "NVIDIA A100 data sheet; A100 architecture whitepaper, table 3"
_GA106 = "worked out from the RTX 3090's 71 in NVIDIA's GA102 whitepaper: as many operations a unit and clock"
_ADA = "NVIDIA Ada architecture whitepaper, appendix A"
_HOPPER = "NVIDIA H100 and H200 data sheets (dense: half of what is printed with sparsity); H100 whitepaper, table 3"
_BLACKWELL = "NVIDIA RTX Blackwell whitepaper, appendix"
SHEETS: dict[str, Sheet] = {
    "t4": _sheet(65, 8.1, 320, 4, 40, 1590, 70, _TURING),
    "rtx-3060": _sheet(25.5, 12.7, 360, 3, 28, 1777, 170, _GA106),
    "rtx-4090": _sheet(165.2, 82.6, 1008, 72, 128, 2520, 450, _ADA, 163.5),
    "rtx-5090": _sheet(209.5, 104.8, 1792, 96, 170, 2407, 575, _BLACKWELL),
    "a10": _sheet(125, 31.2, 600, 6, 72, 1695, 150, "NVIDIA A10 data sheet; GA102 whitepaper"),
    "l4": _sheet(
        121, 30.3, 300, 48, 58, 2040, 72, "NVIDIA L4 data sheet (dense: half of it); Ada whitepaper"
    ),
    "rtx-6000-ada": _sheet(364.2, 91.1, 960, 96, 142, 2505, 300, _ADA),
    "l40s": _sheet(362.05, 91.6, 864, 96, 142, 2520, 350, "NVIDIA L40S data sheet; Ada whitepaper"),
    "a100-40": _sheet(312, 19.5, 1555, 40, 108, 1410, 400, _AMPERE, 271.2),
    "a100-80": _sheet(312, 19.5, 2039, 40, 108, 1410, 400, _AMPERE, 271.2),
    "h100": _sheet(989.4, 66.9, 3352, 50, 132, 1980, 700, _HOPPER, 794.5),
    "h200": _sheet(989.4, 66.9, 4800, 50, 132, 1980, 700, _HOPPER, 794.5),
}


def sheet(name: str) -> Sheet:
    """Raises :class:`UnknownName` for a GPU whose sheet is not here."""
    try:
        return SHEETS[name]
    except KeyError:
        raise UnknownName("GPU with a known speed", name, SHEETS, "gpu") from None
