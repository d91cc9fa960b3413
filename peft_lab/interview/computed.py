"""Define the input of a calculation and its result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.base import Formula
from peft_lab.models.shapes import ModelShape, ModuleGroup, Role

if TYPE_CHECKING:
    import torch

Given = int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class NearMiss:
    """A wrong answer that reveals the mistake. ``forgot`` completes "you forgot ..."."""

    value: float
    forgot: str


@dataclass(frozen=True)
class Whole:
    """A total that a count of parameters can be stated as a share of. ``size``: parameters without the counted ones if
    those are ``added`` to it; else including them. ``name``: completes "0.1% of ..."."""

    size: int
    name: str = "all parameters"
    added: bool = True

    def share(self, count: float) -> float:
        """Return ``count`` as a percentage."""
        return 100 * count / (self.size + count if self.added else self.size)


@dataclass(frozen=True)
class Answer:
    """A computed answer.

    Attributes:
        value: in ``unit``; for a choice the index of the right option.
        unit: ``parameters``, ``bytes``, ``percent`` (of 100), ``bits`` or any other word; may be empty.
        working: the steps with their numbers, each one line of text with KaTeX.
        tolerance: relative; accepted in addition to correct rounding.
        named: further texts for the answer's template.
        wholes: for a count of parameters: totals that a learner may state it as a percentage of.
    """

    value: float
    unit: str
    working: tuple[str, ...]
    near_misses: tuple[NearMiss, ...] = ()
    tolerance: float = 0.0
    named: Mapping[str, str] = field(default_factory=dict)
    wholes: tuple[Whole, ...] = ()

    @property
    def shown(self) -> str:
        """Return the value as shown to a learner: ``4,587,520 parameters``, ``14.6 GB (13.6 GiB)``, ``0.143%``."""
        return show(self.value, self.unit)


@dataclass(frozen=True)
class Case:
    """The input of a calculation: one model's shape and the question's given values."""

    model: ModelShape | None
    given: Mapping[str, Given]

    @property
    def shape(self) -> ModelShape:
        if self.model is None:
            raise BadInput("This question needs a model. Name one.", "model")
        return self.model

    def __getitem__(self, name: str) -> int:
        """Return a given value that is a whole number. Raises BadInput if it is not."""
        value = self.given[name]
        if not isinstance(value, int):
            raise BadInput(f"'{name}' must be a whole number in this question.", name)
        return value

    def number(self, name: str) -> float:
        """Return a given value that is any number. Raises BadInput if it is not."""
        value = self.given[name]
        if isinstance(value, str | tuple):
            raise BadInput(f"'{name}' must be a number in this question.", name)
        return float(value)

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return a given value that is a list of numbers. Raises BadInput if it is not."""
        value = self.given[name]
        if not isinstance(value, tuple):
            raise BadInput(f"'{name}' must be a list of numbers in this question.", name)
        return value

    def matrix(self, role: Role) -> ModuleGroup:
        """Return the block's linear map of that role (see :attr:`ModelShape.block`)."""
        return self.shape.block[role]

    def formula(self, method: str, **values: Any) -> Formula:
        """Return the method's formula with these knobs. Raises BadInput: it cannot be applied with these values."""
        spec = get_method(method)
        return spec.formula(self.shape, spec.require(self.shape, values))

    def trained(self, method: str, **values: Any) -> int:
        """Return the trainable count by the method's own formula. Raises BadInput as :meth:`formula`."""
        return self.formula(method, **values).trainable

    def stored(self, method: str, **values: Any) -> int:
        """Return the stored count by the method's own formula. Raises BadInput as :meth:`formula`."""
        return self.formula(method, **values).stored

    def lora(self, r: int, *roles: Role, **values: Any) -> int:
        """Return what LoRA of rank ``r`` trains on the block's maps of these roles; on all of them if none is named."""
        names = [self.shape.target_name(self.matrix(role)) for role in roles]
        return self.trained("lora", r=r, target_modules=names or ["all-linear"], **values)

    def three_vectors(self) -> int:
        """Return the parameters of IA³ as in its paper: vectors on keys, values and inner feed-forward activations.

        Path endings cannot always name them alone: on BERT types ``output.dense`` also hits the attention's output map.
        """
        groups = [self.matrix(role) for role in ("k", "v", "down")]
        names, paths = [self.shape.target_name(group) for group in groups], {group.path for group in groups}
        formula = self.formula("ia3", target_modules=names, feedforward_modules=names[-1:])
        return sum(term.total for term in formula.terms if term.module in paths)


def three_digits(value: float) -> str:
    """Return three significant digits without an exponent: ``0.143``, ``13.6``, ``1,050``."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.3g}"


def show(value: float, unit: str) -> str:
    """Return a value with its unit; bytes in decimal and binary units, whole numbers without decimals."""
    if unit == "bytes":
        if abs(value) < 1e6:
            return f"{round(value):,} bytes"
        power, name = (30, "GiB") if abs(value) >= 2**30 else (20, "MiB")
        return f"{units.size(value)} ({three_digits(value / 2**power)} {name})"
    if unit == "percent":
        return units.percent(value)
    if unit == "parameters" and value != round(value):
        return f"{units.short_count(value)} parameters"
    whole = value == round(value) or abs(value) >= 1e4
    text = f"{round(value):,}" if whole or abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".strip()


# ----------------------------------------
# Numbers and lines for the working of an answer, as KaTeX, and the small sums that several questions share.


NO_GQA = "grouped-query attention: keys and values are narrower than queries here"
BITS = 8  # per byte
BYTE, HALF, SINGLE = 1, 2, 4  # bytes of a number of 8, 16 or 32 bits
MOMENTS = 2  # of Adam, per trained parameter
MIXED = HALF + HALF + SINGLE + MOMENTS * SINGLE  # mixed precision: weights, gradients, master copy, moments


def tex(number: float) -> str:
    """Return 4587520 as ``4{,}587{,}520``: without the braces KaTeX would put a space after each comma."""
    whole = number == round(number) or abs(number) >= 1e5
    text = f"{round(number):,}" if whole else f"{number:,.5g}"
    mantissa, e, power = text.partition("e")
    return mantissa.replace(",", "{,}") + (rf" \cdot 10^{{{int(power)}}}" if e else "")


def line(formula: str) -> str:
    """Return one displayed formula."""
    return f"${formula}$"


def plain(number: float) -> str:
    """Return a number for running text: ``1,536``, ``85.3``."""
    return f"{round(number):,}" if number == round(number) or abs(number) >= 1000 else f"{number:.3g}"


def share(part: float, whole: float) -> str:
    """Return ``part`` of ``whole`` as a percentage."""
    return units.percent(100 * part / whole)


def misses(value: float, *pairs: tuple[float, str], tolerance: float = 0.0) -> tuple[NearMiss, ...]:
    """Return near misses, each value once, except those that equal the answer on this model or pass for it."""
    found: dict[float, str] = {}
    for wrong, forgot in pairs:
        if abs(wrong - value) > tolerance * abs(value):
            found.setdefault(wrong, forgot)
    return tuple(NearMiss(wrong, forgot) for wrong, forgot in found.items())


def result(
    value: float,
    unit: str,
    working: Iterable[str],
    *pairs: tuple[float, str],
    tolerance: float = 0.0,
    named: Mapping[str, float | str] | None = None,
    wholes: tuple[Whole, ...] = (),
) -> Answer:
    """Return an answer. ``working``: formulas. ``pairs``: near misses, each with what was forgotten. ``named``: further
    values; numbers become running text."""
    steps, slips = tuple(map(line, working)), misses(value, *pairs, tolerance=tolerance)
    return Answer(value, unit, steps, slips, tolerance, _texts(named or {}), wholes)


def figure(value: float, unit: str = "", **named: float | str) -> Answer:
    """Return the number of a follow-up, whose text is its working; further named values become running text."""
    return Answer(value, unit, (), named=_texts(named))


def _texts(named: Mapping[str, float | str]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else plain(value) for name, value in named.items()}


def entries(group: ModuleGroup) -> int:
    """Return the number of weights of one linear map, without its bias."""
    return group.in_features * group.out_features


def both(group: ModuleGroup) -> int:
    """Return the sum of inputs and outputs, which LoRA multiplies by its rank."""
    return group.in_features + group.out_features


def block_entries(shape: ModelShape) -> int:
    """Return the weights of all the blocks' linear maps, which every token is multiplied with and 4 bits store."""
    return sum(entries(group) * group.count for group in shape.matrices if group.layers)


def numbers_of(shape: ModelShape) -> dict[str, int]:
    """Return a model's numbers by the names that texts and formulas use; those it has."""
    numbers: dict[str, int | None] = {
        "layers": shape.num_layers, "hidden": shape.hidden, "heads": shape.heads, "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim, "kv_width": shape.kv_width, "intermediate": shape.intermediate,
        "vocab": shape.vocab, "positions": shape.max_positions, "total": shape.total,
    }  # fmt: skip
    for role, group in shape.block.items():
        numbers |= {f"{role}_in": group.in_features, f"{role}_out": group.out_features}
    return {name: number for name, number in numbers.items() if number is not None}


def parts_of(shape: ModelShape) -> dict[str, Any]:
    """Return the parameters of a model's parts by the names that formulas use.

    ``block_outputs`` are the outputs of a block's linear maps together; ``layer_biases`` are one layer's; ``norms`` are
    modules with a bias, ``layer_norms`` those of one layer; ``looked_up`` are the entries of embedding tables that no
    output layer shares and multiplies with; ``vocab_sides`` counts embedding and output layer, one if they are tied.
    """
    biases = [(group, group.parameters[name][0]) for group, name in shape.biases]
    norms = [(group, size) for group, size in biases if group.is_norm]
    ends = [
        group for group in shape.groups if not group.layers and group.each
    ]  # a tied one holds nothing itself
    shared = any(group.tied and group.is_matrix for group in shape.groups)
    return {
        "block_outputs": sum(group.out_features for group in shape.block.values()),
        "biases": sum(group.count * size for group, size in biases),
        "layer_biases": tuple(size for group, size in biases if group.layers),
        "norm_biases": sum(group.count * size for group, size in norms),
        "norms": sum(group.count for group, _ in norms),
        "layer_norms": sum(1 for group, _ in norms if group.layers),
        "layer_weights": sum(group.each * group.count for group in shape.groups if group.layers),
        "norm_weights": sum(group.each * group.count for group in shape.groups if group.is_norm),
        "looked_up": 0 if shared else sum(group.each for group in shape.groups if group.type == "Embedding"),
        "vocab_sides": sum(shape.vocab in group.parameters.get("weight", ()) for group in ends),
    }


def minus(values: Sequence[float], others: Sequence[float] | float) -> tuple[float, ...]:
    """Return the differences of two lists, or of a list and one number.

    >>> minus((3, 5), (1, 2)), minus((3, 5), 1)
    ((2, 3), (2, 4))
    """
    subtracted = others if isinstance(others, Sequence) else [others] * len(values)
    return tuple(one - other for one, other in zip(values, subtracted, strict=True))


def times(values: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    """Return the products of two lists, entry by entry."""
    return tuple(one * other for one, other in zip(values, others, strict=True))


def of_sign(values: Sequence[float], sign: float) -> tuple[float, ...]:
    """Return the values that have the sign of ``sign``.

    >>> of_sign((3, -1, 0, -2), -1)
    (-1, -2)
    """
    return tuple(value for value in values if value * sign > 0)


def relative_weights(scores: Sequence[float], temperature: float) -> tuple[float, ...]:
    """Return a softmax's weights relative to that of the highest score."""
    return tuple(math.exp((score - max(scores)) / temperature) for score in scores)


def plus(values: Iterable[float], before: str = "", after: str = "") -> str:
    """Return a sum as KaTeX, each number between two texts.

    >>> plus((1000, -2), "(", ")")
    '(1{,}000) + (-2)'
    """
    return " + ".join(f"{before}{tex(value)}{after}" for value in values)


# ----------------------------------------
# NF4 in plain Python: the code book and the bits that one weight costs.
#
# Source: Dettmers et al. 2023, section 3 and appendix E. A test compares the code book with bitsandbytes'. Two formats
# that GPUs multiply in are added: NVFP4 and MXFP4, of the same 4-bit floats with different constants.


NF4_BLOCK = 64  # weights that share one constant
SECOND_BLOCK = 256  # constants that share one second constant under double quantisation
CONSTANT_BITS = 32
SECOND_CONSTANT_BITS = 8
CODE_BITS = 4
NVFP4_BLOCK, MXFP4_BLOCK = 16, 32
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # the magnitudes of a 4-bit float
POSITIVE = 8  # values on the positive side; the negative side has one fewer, and zero makes it 16


@cache
def nf4_values() -> tuple[float, ...]:
    """Return the 16 values, ascending, from -1 to 1: quantiles of the normal distribution, divided by the largest.

    The outermost quantile is the mean of those for 15 and 16 equal bins, so that both ends exist and one value is
    exactly zero.
    """
    outermost = 1 - (1 / (2 * (2 * POSITIVE - 1)) + 1 / (2 * 2 * POSITIVE)) / 2
    positive, negative = _side(outermost, POSITIVE), _side(outermost, POSITIVE - 1)
    values = sorted([*positive, 0.0, *(-value for value in negative)])
    return tuple(value / values[-1] for value in values)


def _side(outermost: float, count: int) -> list[float]:
    step = (outermost - 0.5) / count
    return [NormalDist().inv_cdf(outermost - step * index) for index in range(count)]


def nearest_nf4(value: float) -> float:
    """Return the code value that a normalised weight is rounded to.

    >>> round(nearest_nf4(0.1), 4), nearest_nf4(0.0), nearest_nf4(0.9)
    (0.0796, 0.0, 1.0)
    """
    return min(nf4_values(), key=lambda code: abs(code - value))


def nf4_bits(
    block: int = NF4_BLOCK, double: bool = False, constant: int = CONSTANT_BITS, code: int = CODE_BITS
) -> float:
    """Return the bits per weight, constants included.

    >>> nf4_bits(), nf4_bits(double=True)  # 4 of the code; 32 for 64 weights, or 8 and few of 32
    (4.5, 4.126953125)
    """
    if not double:
        return code + constant / block
    return code + SECOND_CONSTANT_BITS / block + constant / (block * SECOND_BLOCK)


def four_bit_bytes(shape: ModelShape) -> float:
    """Return the bytes of a model with the blocks' maps in NF4 with double quantisation, and the rest in 16 bits."""
    weights = block_entries(shape)
    return weights * nf4_bits(double=True) / BITS + (shape.total - weights) * HALF


def float_errors(rows: int = 1 << 18) -> list[float]:
    """Return the error of normal numbers, in percent of their norm, in NVFP4 and in MXFP4.

    NVFP4's constants are 8-bit floats (E4M3) under one 32-bit constant for the tensor; MXFP4's are powers of two, that
    of the largest number over that of E2M1's largest (Open Compute Project, Microscaling Formats 1.0, section 6.3).
    """
    import torch

    torch.manual_seed(0)
    weights, largest = torch.randn(rows, MXFP4_BLOCK), E2M1[-1]
    blocks = weights.reshape(-1, NVFP4_BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True) / largest
    tensor = scale.max() / torch.finfo(torch.float8_e4m3fn).max
    nvidia = (scale / tensor).to(torch.float8_e4m3fn).float() * tensor
    powers = 2 ** (weights.abs().amax(dim=1, keepdim=True).log2().floor() - 2)
    grid = torch.tensor(E2M1)

    def lost(numbers: torch.Tensor, constant: torch.Tensor) -> float:
        size = (numbers / constant).abs().clamp(max=largest)
        restored = grid[torch.bucketize(size, (grid[1:] + grid[:-1]) / 2)] * numbers.sign() * constant
        return 100 * float((restored - numbers).norm() / numbers.norm())

    return [lost(blocks, nvidia), lost(weights, powers)]


# ----------------------------------------
# Confidence intervals of a share from few answers.


LEVEL = 0.95


def wilson(known: float, rated: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's score interval of a share.

    Points given in fractions vary no more than whole points of the same mean, so for them the interval is too wide.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = known / rated, z * z / rated
    middle = (share + spread / 2) / (1 + spread)
    half = z * ((share * (1 - share) + spread / 4) / rated) ** 0.5 / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
