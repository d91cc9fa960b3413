"""The request for plans: a model, data, devices, and what may be spent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from peft_lab.advise.plans import lengths
from peft_lab.advise.recipes.job import OF_ENCODERS
from peft_lab.advise.situation import LINKS, Situation
from peft_lab.ask import limits
from peft_lab.ask.form import Form, again, choice, number, text, whole
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.models import images
from peft_lab.models.catalogue import resolve

HOUR = 3600.0
#: Methods that are ranked on request: those for which the decision tree has settings with sources.
FURTHER = ("ia3", "bitfit", "adapters", "prompt")


def read_further(text: str) -> str:
    """Return the methods to rank beside the usual ones, checked. Raises UnknownName."""
    for name in filter(None, (name.strip() for name in text.split(","))):
        if name not in FURTHER:
            raise UnknownName("method to rank beside the usual ones", name, FURTHER, "also")
    return text


def read_deadline(text: str) -> str:
    """Return a deadline, checked. Raises BadInput if it is invalid or past."""
    Wanted(deadline=text).hours()
    return text


@dataclass(frozen=True)
class Wanted(Form):
    """Everything that plans depend on; what it shares with Choose's situation is declared there.

    ``packed``: rows of ``seq`` tokens that all rows fill together, by their lengths; 0: rows are padded.
    """

    model: str = again(Situation, "model", "llama-3.1-8b")
    objective: str = again(Situation, "objective")
    rows: int = again(Situation, "rows")
    row_tokens: int = again(Situation, "row_tokens", 512, empty="")
    seq: int = again(Situation, "seq")
    gpu: str = again(
        Situation,
        "device",
        "rtx-4090",
        label="GPU",
        help="A name; another card goes by its memory: type 24GB.",
    )
    devices: int = again(Situation, "devices")
    link: str = choice("pcie", "Between them", "What connects the GPUs.", LINKS, noun="link", shared="link")
    price: float | None = number(
        None, "Price of one GPU for an hour", "In any currency; plans are then ranked by cost too.",
        above=0, most=limits.PRICE, noun="price", empty="no price",
    )  # fmt: skip
    deadline: str = text(
        "", "Deadline", "Hours from now, or a moment such as 2026-11-27T08:00.", reader=read_deadline
    )
    also: str = text(
        "", "Rank as well", f"Methods beside the usual ones: {', '.join(FURTHER)}.", reader=read_further
    )
    optimizer: str = choice(
        "", "Optimizer", "By default AdamW, in 8 bits where necessary.",
        {"": "AdamW, in 8 bits where necessary", **OPTIMIZER_TITLES}, noun="optimizer",
    )  # fmt: skip
    packed: int = whole(
        0, "Packed rows", "Full rows that all rows fill together; 0: padded.", least=0, most=limits.ROWS
    )

    @property
    def further(self) -> tuple[str, ...]:
        """Return the methods in ``also``, each once."""
        return tuple(dict.fromkeys(filter(None, (name.strip() for name in self.also.split(",")))))

    def hours(self, now: datetime | None = None) -> float | None:
        """Return the hours left; ``None`` without a deadline. Raises BadInput if it is invalid or past."""
        if not self.deadline:
            return None
        try:
            left = float(self.deadline)
        except ValueError:
            try:
                moment = datetime.fromisoformat(self.deadline)
            except ValueError:
                raise BadInput(
                    f"'{self.deadline[:40]}' is neither hours, such as 12, nor a moment, such as 2026-11-27T08:00.",
                    "deadline",
                ) from None
            start = now or datetime.now(moment.tzinfo)
            left = (moment - start).total_seconds() / HOUR
        if not math.isfinite(left):
            raise BadInput(f"'{self.deadline[:40]}' is no time.", "deadline")
        if left > limits.HOURS:
            raise BadInput(
                f"A deadline is at most {limits.HOURS:,} hours away: give an earlier one, or none.",
                "deadline",
            )
        if left <= 0:
            raise BadInput(
                "The deadline has passed: give hours from now, or a moment that is still to come.", "deadline"
            )
        return left

    def situation(self) -> Situation:
        """Return Choose's situation for this request, which simulates, recommends and looks up recipes."""
        return Situation(
            model=self.model, device=self.gpu, seq=self.seq, rows=self.rows, devices=self.devices,
            link=self.link if self.devices > 1 else "", objective=self.objective, row_tokens=self.row_tokens,
        )  # fmt: skip

    def rules(self) -> Iterator[BadInput]:
        """Yield unknown names and contradictions."""
        found = list[BadInput]()

        def works(look: Callable[[], object]) -> bool:
            try:
                look()
            except BadInput as error:
                error.field = "gpu" if error.field == "device" else error.field
                found.append(error)
                return False
            return True

        known = works(self._check_model)
        works(partial(read_further, self.also))
        works(self._check_tokens)
        works(self.hours)
        situation = self.situation()
        if not works(self._check_gpu):
            situation = replace(situation, device=Wanted.gpu)  # so that other problems are reported too
        if known:
            if not works(self._check_objective):
                situation = replace(situation, objective="")
            if self.packed:
                works(self._check_packed)
            found += situation.rules()
        yield from found

    def _check_model(self) -> None:
        images.require_text(resolve(self.model).shape, "Plan")

    def _check_gpu(self) -> None:
        device = self.situation().hardware
        if device.kind != "cuda":
            raise BadInput(
                f"{device.title} is no GPU, and Plan is for GPUs; Choose answers for a processor too.", "gpu"
            )

    def _check_objective(self) -> None:
        shape = resolve(self.model).shape
        if shape.kind == "encoder" and self.objective and self.objective not in OF_ENCODERS:
            raise BadInput(f"{shape.title} writes no text: choose {', '.join(OF_ENCODERS)}.", "objective")

    def _check_tokens(self) -> None:
        if self.row_tokens > self.seq > 0:
            raise BadInput(
                f"Rows of {self.row_tokens:,} tokens on average cannot be cut at {self.seq:,}.", "row_tokens"
            )

    def _check_packed(self) -> None:
        purpose = self.situation().purpose
        lengths.check_packing(resolve(self.model), purpose, self.packed, self.rows, self.row_tokens, self.seq)


KEYS = tuple(Wanted.fields())


def read(told: Mapping[str, str]) -> Wanted:
    """Return the request that texts give, with defaults for missing fields. ``row_tokens`` alone sets ``seq``.

    Raises:
        BadInput, UnknownName: a text cannot be read, or the request contradicts itself.
    """
    wanted, wrong = look(told)
    for error in wrong:
        raise error
    return wanted


def look(told: Mapping[str, str]) -> tuple[Wanted, tuple[BadInput, ...]]:
    """Return the request that texts give, as :func:`read`, and its problems: at most one per field. A field that
    cannot be read gets its default."""
    wanted, unread = values(told)
    wrong = dict[str | None, BadInput](unread.items())
    for problem in wanted.problems():
        wrong.setdefault(problem.field, problem)
    return wanted, tuple(wrong.values())


def values(told: Mapping[str, str]) -> tuple[Wanted, dict[str, BadInput]]:
    """Return the request from the texts that can be read, defaults for the rest, and errors by field."""
    read_, wrong = Wanted.parse(told)
    wanted = replace(Wanted(), **read_)
    if "row_tokens" in read_ and "seq" not in read_:
        wanted = replace(wanted, seq=room(wanted))
    return wanted, wrong


def room(wanted: Wanted) -> int:
    """Return the tokens that hold a row of average length: a power of two, or the most that the model takes."""
    return min(1 << max(wanted.row_tokens - 1, 0).bit_length(), most_tokens(wanted.model))


def most_tokens(model: str) -> int:
    """Return the maximum tokens per row. Unknown models get the lab's limit; ``check`` reports them."""
    try:
        limit = resolve(model).shape.max_positions
    except BadInput:
        limit = None
    return limit or limits.SEQ


def plain(wanted: Wanted) -> dict[str, Any]:
    """Return the request as plain data, to send it between processes."""
    return asdict(wanted)


@dataclass(frozen=True)
class Typical:
    """A frequent request. ``wanted``: what it sets."""

    name: str
    title: str
    wanted: Wanted
    buying: bool = False


TYPICAL = (
    Typical(
        "two-cards", "70B on two 24 GB cards",
        Wanted("llama-3.1-70b", "sft", 10_000, 384, 512, "rtx-4090", 2),
    ),
    Typical(
        "long-rows", "8B at 32k tokens on one 80 GB",
        Wanted("llama-3.1-8b", "sft", 2_000, 24_000, 32_768, "h100", 1),
    ),
    Typical(
        "overnight", "Cheapest for 7B on 50k rows overnight",
        Wanted("mistral-7b", "sft", 50_000, 384, 512, "rtx-4090", 1, deadline="12"),
    ),
    Typical(
        "buy", "What do I need to buy?", Wanted("llama-3.1-70b", "sft", 10_000, 384, 512, "h100", 8, "nvlink"), True,
    ),
)  # fmt: skip
