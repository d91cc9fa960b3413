"""The request for plans: a model, data, devices, and what may be spent."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Any

from peft_lab.advise.plans import lengths
from peft_lab.advise.recipes.job import OBJECTIVES, OF_ENCODERS
from peft_lab.advise.situation import LINKS, MOST, Situation, read_value
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine.step import OPTIMIZERS
from peft_lab.models import images
from peft_lab.models.catalogue import resolve

HOUR = 3600.0
_MOST_PRICE = 10_000.0
#: Methods that are ranked on request: those for which the decision tree has settings with sources.
FURTHER = ("ia3", "bitfit", "adapters", "prompt")


@dataclass(frozen=True)
class Wanted:
    """Everything that plans depend on.

    Attributes:
        model: a catalogue name, a Hugging Face id, a folder or a config.json.
        objective: the training goal; empty: what suits the model.
        rows, row_tokens: training rows, and their average length in tokens. seq: tokens at which a row is cut.
        gpu: a name from the list of devices, or a size such as ``24GB``. devices: how many. link: what connects them.
        price: per GPU-hour, in any currency; ``None`` if it does not matter.
        deadline: hours, or a moment such as ``2026-11-27T08:00``; empty without one.
        also: methods to rank beside the usual ones, of :data:`FURTHER`, separated by commas.
        optimizer: of :data:`peft_lab.engine.step.OPTIMIZERS`; empty for AdamW, in 8 bits where necessary.
        packed: rows of ``seq`` tokens that all rows fill together, by their lengths; 0: rows are padded.
    """

    model: str = "llama-3.1-8b"
    objective: str = ""
    rows: int = 10_000
    row_tokens: int = 512
    seq: int = 512
    gpu: str = "rtx-4090"
    devices: int = 1
    link: str = "pcie"
    price: float | None = None
    deadline: str = ""
    also: str = ""
    optimizer: str = ""
    packed: int = 0

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
        if left > MOST["deadline_hours"]:
            raise BadInput(
                f"A deadline is at most {MOST['deadline_hours']:,} hours away: give an earlier one, or none.",
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

    def check(self) -> Wanted:
        """Return the request. Raises BadInput if it contradicts itself, UnknownName if a name is unknown."""
        for error in self.problems():
            raise error
        return self

    def problems(self) -> tuple[BadInput, ...]:
        """Return the contradictions and unknown names, at most one per field."""
        found: dict[str | None, BadInput] = {}

        def works(look: Callable[[], object]) -> bool:
            try:
                look()
            except BadInput as error:
                error.field = "gpu" if error.field == "device" else error.field
                found.setdefault(error.field, error)
                return False
            return True

        known = works(self._check_model)
        names = ((self.link, "link", LINKS), (self.optimizer or "adamw", "optimizer", OPTIMIZERS))
        for name, what, all_ in names:
            works(partial(_in, what, name, all_))
        for name in self.further:
            works(partial(_in, "method to rank beside the usual ones", name, FURTHER, "also"))
        works(lambda: None if self.price is None else checked_price(self.price))
        works(self._check_rows)
        for name in ("rows", "row_tokens", "seq", "devices"):
            works(partial(read_field, name, str(getattr(self, name))))
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
            works(situation.check)
        return tuple(found.values())

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
        if self.objective:
            _in("objective", self.objective, OBJECTIVES)
        if shape.kind == "encoder" and self.objective and self.objective not in OF_ENCODERS:
            raise BadInput(f"{shape.title} writes no text: choose {', '.join(OF_ENCODERS)}.", "objective")

    def _check_rows(self) -> None:
        if self.rows < 1:
            raise BadInput(
                "There has to be a row to learn from: give the number of your training rows.", "rows"
            )

    def _check_tokens(self) -> None:
        if self.row_tokens > self.seq > 0:
            raise BadInput(
                f"Rows of {self.row_tokens:,} tokens on average cannot be cut at {self.seq:,}.", "row_tokens"
            )

    def _check_packed(self) -> None:
        purpose = self.situation().purpose
        lengths.check_packing(resolve(self.model), purpose, self.packed, self.rows, self.row_tokens, self.seq)


def _in(what: str, name: str, known: Collection[str], field: str = "") -> None:
    """Raise UnknownName if a name is not among those known."""
    if name not in known:
        raise UnknownName(what, name, known, field or what)


def checked_price(price: float) -> float:
    """Return the price. Raises BadInput if it is out of range."""
    if not 0 < price <= _MOST_PRICE:
        raise BadInput(
            f"A price is above 0 and at most {_MOST_PRICE:,.0f} an hour; {price:g} is not.", "price"
        )
    return price


_NAMES = {"gpu": "device"}
KEYS = tuple(field.name for field in fields(Wanted))


def read_field(name: str, text: str) -> Any:
    """Return a field's value from its text. Raises BadInput, UnknownName."""
    if name == "deadline":
        Wanted(deadline=text.strip()).hours()
        return text.strip()
    if name == "also":
        return Wanted(model="smollm2-135m", also=text.strip()).check().also
    if name == "price":
        try:
            return checked_price(float(text))
        except ValueError:
            raise BadInput(
                f"price is a number for one GPU and hour; '{text[:40]}' is not.", "price"
            ) from None
    if name == "objective" and text not in OBJECTIVES:
        raise UnknownName("objective", text, OBJECTIVES, "objective")
    if name == "packed":
        if not (text.isascii() and text.isdecimal() and len(text) < 11):
            raise BadInput(f"packed is a whole number of rows; '{text[:40]}' is not.", "packed")
        return int(text)
    if name == "optimizer":
        if text not in OPTIMIZERS:
            raise UnknownName("optimizer", text, OPTIMIZERS, "optimizer")
        return text
    try:
        return read_value(_NAMES.get(name, name), text)
    except BadInput as error:
        error.field = name
        raise


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
    read_, wrong = dict[str, Any](), dict[str, BadInput]()
    for name, text in told.items():
        try:
            read_[name] = read_field(name, text)
        except BadInput as error:
            wrong[name] = error
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
    return min(limit or MOST["seq"], MOST["seq"])


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
