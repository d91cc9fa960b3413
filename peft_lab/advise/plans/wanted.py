"""Define the request for plans: a model, data with row lengths, devices, budget; and the facts for a plan's files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any

from peft_lab.advise.plan import StepPlan
from peft_lab.advise.recipes.rules import ANSWERS, CONTENT, OBJECTIVES, OF_ENCODERS
from peft_lab.advise.simulating import TENSOR
from peft_lab.advise.situation import LINKS, Situation, hours_left
from peft_lab.core import disk, limits, units
from peft_lab.core.content import read_entries, read_entry
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.core.form import Form, again, choice, number, text, whole
from peft_lab.engine.request import StepForm
from peft_lab.engine.sharding import tensor, wrap
from peft_lab.engine.step import OF_BITSANDBYTES, OPTIMIZER_TITLES
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models import images
from peft_lab.models.catalogue import resolve
from peft_lab.models.heads import TaskType, task_type
from peft_lab.models.shapes import CLASSIFIERS, ModelEntry
from peft_lab.takeaway.applied import PeftCall, peft_call
from peft_lab.training.batches import TYPES, fill

NAME = "train.py"
ROWS = "rows.jsonl"
#: Requirements of every script, as arguments for pip.
NEEDED = ("'torch>=2.7'", "'transformers>=5'", "accelerate")
#: Objectives whose loss is that of the next token or of a class, as in the script's step.
WRITTEN = (*ANSWERS, "cpt")
REFUSALS = read_entry(CONTENT / "refusals.yaml", dict[str, str])


@dataclass(frozen=True)
class PlanFacts:
    """What a plan's files are written from."""

    entry: ModelEntry
    method: MethodSpec
    plan: StepPlan
    objective: str
    call: PeftCall | None

    @property
    def values(self) -> Mapping[str, Any]:
        """Return all knobs."""
        return self.plan.values

    @property
    def task_type(self) -> TaskType:
        """Return PEFT's task type for this kind of model."""
        return task_type(self.entry.kind, self.entry.kind in CLASSIFIERS)

    @property
    def classifies(self) -> bool:
        """Return whether rows have a class; models that write give the class as text."""
        return self.entry.kind == "encoder"

    @property
    def sharded(self) -> bool:
        """Return whether FSDP2 splits the weights over the ranks."""
        return self.plan.sharding.startswith("fsdp2")

    @property
    def loads_alone(self) -> bool:
        """Return whether only a script's first rank loads a split model and sends the others their shares. Not a 4-bit
        base, which is more than tensors, nor split matrices: each rank takes their parts from its own copy."""
        return self.sharded and not self.four_bits

    @property
    def by_matrices(self) -> bool:
        """Return whether every matrix is split and all ranks read the same rows."""
        return self.plan.sharding == TENSOR

    @property
    def four_bits(self) -> bool:
        """Return whether the method stores the base quantised."""
        return self.method.quantization(self.values) is not None

    def said(self, name: str) -> Any:
        """Return the value of a recipe's setting."""
        return self.plan.settings[name].value


def gather_facts(entry: ModelEntry, method: str, plan: StepPlan, objective: str) -> PlanFacts:
    """Return the facts of a plan. Raises as :func:`peft_lab.takeaway.applied.peft_call`."""
    spec = get_method(method)
    call = peft_call(entry, spec, plan.values, task_type(entry.kind, entry.kind in CLASSIFIERS))
    return PlanFacts(entry, spec, plan, objective, call)


def needed(facts: PlanFacts) -> tuple[str, ...]:
    """Return what pip has to install for this plan, apart from the method's own libraries."""
    torch = NEEDED[0]
    if facts.plan.optimizer == "muon":
        torch = "'torch>=2.9'"  # the first with Muon
    if facts.plan.loss == "chunked":
        torch = "'torch>=2.13'"  # the oldest whose documentation has linear_cross_entropy
    packed = facts.four_bits or facts.plan.optimizer in OF_BITSANDBYTES
    return (torch, *NEEDED[1:], *(("bitsandbytes",) if packed else ()))


def refusal_to_write(facts: PlanFacts) -> str:
    """Return why no script can run this plan; empty if one can."""
    plan, classes = facts.plan, facts.classifies and facts.objective != "classification"
    cases = {
        "script loss": facts.objective not in WRITTEN or classes,
        "script float16": plan.dtype == "float16",
        "script adapters": plan.adapter_dtype not in ("", "float32", plan.dtype),
        "script not in PEFT": facts.sharded and facts.call is None and facts.method.slug != "full",
    }
    for case, there in cases.items():
        if there:
            objective, method = OBJECTIVES[facts.objective], facts.method.title
            return REFUSALS[case].format(objective=objective, dtype=plan.dtype, method=method)
    if facts.by_matrices and (
        reason := tensor.why_not(facts.entry.shape, facts.method, facts.values, plan.devices)
    ):
        return reason
    runs = "fsdp2" if facts.sharded else plan.sharding
    return wrap.why_not(plan.optimizer, runs)


# ----------------------------------------
# Packing in a plan: when it works and how many rows it makes; :mod:`peft_lab.training.batches` does it.


def rows_of(tokens: Sequence[int], seq: int) -> int:
    """Return how many rows of ``seq`` tokens the rows fill when packed; longer rows are cut.

    >>> rows_of([300, 200, 100, 900], seq=512)
    3
    """
    return len(fill([min(length, seq) for length in tokens], seq))


def why_no_lengths(entry: ModelEntry, objective: str) -> str:
    """Return why rows cannot be packed for this model and objective; empty if they can."""
    kind = entry.config.get("text_config", entry.config).get("model_type", "")
    if entry.kind != "causal-lm" or objective not in WRITTEN:
        return "Only decoders that learn the next token can use packed rows. Turn packing off."
    if kind not in TYPES:
        return (
            f"Packed rows were not tested on models of type '{kind}'. Turn packing off, or choose one of "
            f"{', '.join(TYPES)}."
        )
    return ""


def check_packing(
    entry: ModelEntry, objective: str, packed: int, rows: int, row_tokens: int, seq: int
) -> None:
    """Check that rows can be packed into sequences of that many tokens. Raises BadInput otherwise."""
    if reason := why_no_lengths(entry, objective):
        raise BadInput(reason, "packed")
    if packed > rows or (row_tokens - 0.5) * rows > packed * seq:
        every = f"{units.several(rows, 'row')} of {units.several(row_tokens, 'token')}"
        filled = f"{units.several(packed, 'row')} of {seq:,}"
        raise BadInput(
            f"{every} on average cannot fill {filled}. Give the rows' lengths again.",
            "packed",
        )


MOST_LENGTHS = 1_000_000
_LARGEST = 256 << 20  # bytes of a file of lengths; a row's text may stand beside its length
_LONGEST = 131_072
_KEYS = ("tokens", "length", "n_tokens", "num_tokens")
_NUMBER = re.compile(r"\d{1,7}")
_BINS = 12


@dataclass(frozen=True)
class Lengths:
    """The sorted lengths of all rows, in tokens."""

    tokens: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Return the mean length of a row, in tokens."""
        return sum(self.tokens) / len(self.tokens)

    def fields(self) -> dict[str, str]:
        """Return the fields of a request that they determine: rows, their mean length, and the greatest length."""
        return {
            "rows": str(len(self.tokens)),
            "row_tokens": str(max(1, round(self.mean))),
            "seq": str(self.tokens[-1]),
        }

    def histogram(self) -> list[tuple[int, int]]:
        """Return the upper end of each of about a dozen equal intervals, and its number of rows.

        >>> Lengths((1, 2, 12)).histogram()[:2]
        [(1, 1), (2, 1)]
        """
        width = max(1, ceil(self.tokens[-1] / _BINS))
        counts = [0] * ceil(self.tokens[-1] / width)
        for length in self.tokens:
            counts[(length - 1) // width] += 1
        return [((number + 1) * width, count) for number, count in enumerate(counts)]


def lengths_in(file: Path | None) -> Lengths | None:
    """Return the lengths in a file, None without one. Raises as :func:`read_lengths`."""
    return None if file is None else read_lengths(disk.take_text(file, _LARGEST, "lengths"))


def read_lengths(text: str) -> Lengths:
    """Return the lengths from lines that are each a number, or a JSON object with it as ``tokens`` or ``length``.
    Raises BadInput if a line has no length, or there are no rows or too many."""
    found = [
        _length(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]
    if not found:
        raise BadInput("The file has no rows.", "lengths")
    if len(found) > MOST_LENGTHS:
        raise BadInput(f"The file has {len(found):,} rows; at most {MOST_LENGTHS:,} are allowed.", "lengths")
    return Lengths(tuple(sorted(found)))


def _length(number: int, line: str) -> int:
    value: object = None
    if _NUMBER.fullmatch(line):
        value = int(line)
    elif line.startswith("{"):
        try:
            row = json.loads(line)
        except ValueError:
            row = {}
        value = next((row[key] for key in _KEYS if key in row), None)
        if value is None and isinstance(row, dict):
            raise BadInput(
                f"Line {number} has no '{_KEYS[0]}'. Count each row with your tokenizer; a text alone does not give "
                "its number of tokens.",
                "lengths",
            )
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LONGEST:
        raise BadInput(
            f"Line {number} is not a length from 1 to {_LONGEST:,} tokens: '{line[:40]}'.", "lengths"
        )
    return value


#: Methods that are ranked on request: those for which the decision tree has settings with sources.
FURTHER = ("ia3", "bitfit", "adapters", "prompt")


def read_further(text: str) -> str:
    """Return the methods to rank beside the usual ones, checked. Raises UnknownName."""
    for name in filter(None, (name.strip() for name in text.split(","))):
        if name not in FURTHER:
            raise UnknownName("method that can be ranked beside the usual ones", name, FURTHER, "also")
    return text


@dataclass(frozen=True)
class Wanted(Form):
    """Everything that plans depend on; what it shares with Choose's situation is declared there.

    ``packed``: rows of ``seq`` tokens that all rows fill together, by their lengths; 0: rows are padded.
    """

    model: str = again(Situation, "model")
    objective: str = again(Situation, "objective")
    rows: int = again(Situation, "rows")
    row_tokens: int = again(Situation, "row_tokens", 512, empty="")
    seq: int = again(Situation, "seq")
    gpu: str = again(
        Situation,
        "device",
        "rtx-4090",
        label="GPU",
        help="A card's name. For a card that is not listed, its memory, such as 24GB.",
    )
    devices: int = again(Situation, "devices")
    link: str = choice(
        "pcie", "Connected by", "How the GPUs are connected.", LINKS, noun="link", shared="link"
    )
    price: float | None = number(
        None, "Price of one GPU per hour", "In any currency. Plans are then ranked by cost too.",
        above=0, most=limits.PRICE, noun="price", empty="no price",
    )  # fmt: skip
    deadline: str = again(Situation, "deadline", label="Deadline")
    also: str = text(
        "", "Also rank", f"Methods besides the usual ones: {', '.join(FURTHER)}.", reader=read_further
    )
    optimizer: str = choice(
        "", "Optimizer", "AdamW by default, in 8 bits if necessary.",
        {"": "AdamW, in 8 bits if necessary", **OPTIMIZER_TITLES}, noun="optimizer",
    )  # fmt: skip
    packed: int = whole(
        0, "Packed rows", "Number of full rows after packing. 0: rows are padded.", least=0, most=limits.ROWS
    )
    precision: str = again(StepForm, "precision")
    adapter_dtype: str = again(StepForm, "adapter_dtype")

    @property
    def further(self) -> tuple[str, ...]:
        """Return the methods in ``also``, each once."""
        return tuple(dict.fromkeys(filter(None, (name.strip() for name in self.also.split(",")))))

    def hours(self, now: datetime | None = None) -> float | None:
        """Return the hours left; ``None`` without a deadline. Raises BadInput if it is invalid or past."""
        return hours_left(self.deadline, now)

    def situation(self) -> Situation:
        """Return Choose's situation for this request, which simulates, recommends and looks up recipes."""
        return Situation(
            model=self.model, device=self.gpu, seq=self.seq, rows=self.rows, devices=self.devices,
            link=self.link if self.devices > 1 else "", objective=self.objective, row_tokens=self.row_tokens,
            deadline=self.deadline,
        ).timed  # fmt: skip

    def rules(self) -> Iterator[BadInput]:
        """Yield unknown names and contradictions."""
        situation = self.situation()
        unknown = _fault(lambda: images.require_text(resolve(self.model).shape, "Plan"))
        yield from filter(None, (unknown, _fault(lambda: read_further(self.also))))
        if self.row_tokens > self.seq > 0:
            yield BadInput(
                f"The average length ({self.row_tokens:,} tokens) is above the maximum length ({self.seq:,}). Lower "
                "the average or raise the maximum.",
                "row_tokens",
            )
        yield from filter(None, [_fault(self.hours)])
        card = _fault(lambda: situation.hardware)
        if card is None and situation.hardware.kind != "cuda":
            said = f"{situation.hardware.title} is not a GPU, and Plan is only for GPUs. Choose also covers processors."
            card = BadInput(said, "gpu")
        if card is not None:
            yield card
            situation = replace(situation, device=Wanted.gpu)  # so that other problems are reported too
        if unknown is not None:
            return
        shape = situation.shape
        if shape.kind == "encoder" and self.objective and self.objective not in OF_ENCODERS:
            yield BadInput(f"{shape.title} writes no text. Choose {', '.join(OF_ENCODERS)}.", "objective")
            situation = replace(situation, objective="")
        if self.packed:
            asked = (self.situation().purpose, self.packed, self.rows, self.row_tokens, self.seq)
            yield from filter(None, [_fault(lambda: check_packing(resolve(self.model), *asked))])
        yield from situation.rules()


def _fault(look: Callable[[], object]) -> BadInput | None:
    """Return what a look-up finds wrong, at the field of this form."""
    try:
        look()
    except BadInput as error:
        error.field = "gpu" if error.field == "device" else error.field
        return error
    return None


KEYS = tuple(Wanted.fields())


@dataclass(frozen=True)
class Typical:
    """A frequent request. ``wanted``: what it sets."""

    name: str
    title: str
    wanted: Wanted
    buying: bool = False


TYPICAL = read_entries(CONTENT / "typical.yaml", Typical)
