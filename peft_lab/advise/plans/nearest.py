"""Read a request as typed, replace invalid input by the nearest valid, such as a GPU's name, and find plans that
work."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from peft_lab.advise.plans import ranking
from peft_lab.advise.plans.ranking import Candidate, Planned, advice_for, room_for
from peft_lab.advise.plans.wanted import FURTHER, Wanted
from peft_lab.advise.recipes.rules import OBJECTIVES, OF_ENCODERS
from peft_lab.advise.simulating import SPLIT, TENSOR, request
from peft_lab.advise.situation import HOUR, holding, most_tokens
from peft_lab.advise.words import larger_device, smaller_model
from peft_lab.core import limits, units
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.core.references import LIMA
from peft_lab.engine.devices import HEADROOM, HEADROOM_SPLIT, gpus
from peft_lab.engine.simulate import simulate
from peft_lab.methods import get_method
from peft_lab.models.catalogue import catalogue, get_model, known_models, readers_of_text, resolve

NUMBERS = ("rows", "row_tokens", "seq", "devices")
#: The fewest rows known to have trained a model to answer.
LEAST_ROWS = 1_000
_NEAR, _ALIKE = 3, 0.5  # maximum names in a hint, and their minimum similarity
_LONGEST = 40  # letters of a name that are compared
_IN_WORDS = re.compile(r"([0-9][0-9,_ ]*(?:\.[0-9]+)?)\s*([km](?![a-z]))?")
_COMMA = re.compile(r"[0-9],[0-9]{1,2}(?![0-9,])")


@dataclass(frozen=True)
class Meant:
    """A replacement for invalid input.

    Attributes:
        changes: the new values by field of :class:`Wanted`. said: the same as text. short: the text for a button.
        hint: a sentence to add to the error message; may be empty.
    """

    changes: Mapping[str, Any]
    said: str
    short: str
    hint: str = ""


def said_of(error: BadInput, instead: Meant | None) -> str:
    """Return the error's message with the replacement's hint, whose near names replace the error's one."""
    wrong = str(error)
    if instead is None:
        return wrong
    if isinstance(error, UnknownName) and instead.hint:
        wrong = wrong.partition("'. ")[0] + "'."
    return " ".join(filter(None, (wrong, instead.hint)))


def meant(name: str | None, text: str, wanted: Wanted | None = None) -> Meant | None:
    """Return the replacement for a field's text beside the rest of the request; ``None`` if there is no such field."""
    found = _MEANT.get(name or "")
    return None if found is None else found(text, wanted or Wanted())


def together(several: Sequence[Meant]) -> Meant:
    """Return all replacements as one, in their order."""
    changes = {name: value for one in several for name, value in one.changes.items()}
    return Meant(changes, "; ".join(one.said for one in several), "; ".join(one.short for one in several))


def _count(name: str, text: str, wanted: Wanted) -> Meant:
    """Return the nearest count that can be, or a usual one if the text has none."""
    many, most = _number(text), most_tokens(wanted.model)
    count = round(many) if many is not None and many >= 1 else 0
    if name == "rows":
        rows = min(count, limits.ROWS) or LEAST_ROWS
        said = units.several(rows, "row")
        return Meant({"rows": rows}, said if count else f"{said}, as many as in {LIMA}", said)
    if name == "devices":
        devices = min(count, limits.DEVICES) or 1
        if text.strip() == str(devices):  # a readable number is too many for this device
            devices = 1
        said = "one GPU" if devices == 1 else f"{devices:,} GPUs"
        return Meant({"devices": devices}, said, said)
    own = dict[str, int]()
    cut = min(count, most) or holding(wanted.model, wanted.row_tokens)
    if name == "row_tokens":
        usual = min(Wanted().row_tokens, wanted.seq if wanted.seq > 0 else most, most)
        tokens = min(count, most) or usual
        said = f"rows of {units.several(tokens, 'token')}"
        if count > most:
            return Meant({"row_tokens": most, "seq": most}, f"{said}, the longest here", said)
        if count <= wanted.seq:
            return Meant({"row_tokens": tokens}, said, said)
        own = {} if text.strip().isdecimal() else {"row_tokens": tokens}
        cut = holding(wanted.model, tokens)
    return Meant({**own, "seq": cut}, f"rows cut to {units.several(cut, 'token')}", f"rows cut to {cut:,}")


def _price(text: str, _: Wanted) -> Meant:
    comma = _COMMA.search(text)  # a decimal comma, not a thousands separator
    found = _number(text if comma is None else text.replace(",", "."))
    try:
        if found is not None:
            price = Wanted.field("price").check(found)
            return Meant({"price": price}, f"a price of {price:g}", f"a price of {price:g}")
    except BadInput:
        pass
    return Meant({"price": None}, "no price, so plans are ranked by time and have no cost", "no price")


def _option(name: str, text: str, wanted: Wanted) -> Meant:
    """Return the option whose name is nearest, else the default."""
    choice = Wanted.field(name)
    titles = {value: title for value, title in choice.titles.items() if value}
    if name == "objective":
        encoder = resolve(wanted.model).shape.kind == "encoder"
        titles = {value: OBJECTIVES[value] for value in (OF_ENCODERS if encoder else OBJECTIVES)}
    near = _nearest(text, titles) or getattr(Wanted(), name)
    usual = "the usual goal for this model" if name == "objective" else f"the usual {choice.noun}"
    title = titles.get(near, usual)
    return Meant({name: near}, title, title)


def _also(text: str, _: Wanted) -> Meant:
    kept = [name for name in Wanted(also=text).further if name in FURTHER]
    titles = " and ".join(get_method(name).title for name in kept)
    said = f"{titles} ranked beside the usual methods" if kept else "only the usual methods"
    return Meant({"also": ",".join(kept)}, said, titles or "only the usual methods")


def _model(text: str, _: Wanted) -> Meant:
    """Return the model whose name or title is nearest, else the default."""
    known = {name: name for name in readers_of_text(further=True)}
    known |= {get_model(name).title.lower(): name for name in known}
    near = "" if text in known_models() else _nearest(text.rpartition("/")[2], known)  # or it reads no text
    name = known[near] if near else Wanted().model
    title = get_model(name).title
    return Meant({"model": name}, title, title)


def _nearest(text: str, known: Iterable[str]) -> str:
    """Return the known name most similar to a text; empty if none is similar enough."""
    found = difflib.get_close_matches(text.strip().lower()[:_LONGEST], list(known), 1, _ALIKE)
    return found[0] if found else ""


def _number(text: str) -> float | None:
    """Return the number in a text such as ``10k``, ``500 rows`` or ``$2``; ``None`` if missing or negative."""
    text = text.strip().lower()[:_LONGEST]
    try:
        value = float(text)
    except ValueError:
        found = _IN_WORDS.search(text)
        if found is None or text.startswith("-"):
            return None
        digits = re.sub(r"[,_ ]", "", found[1])
        value = float(digits) * {"k": 1e3, "m": 1e6}.get(found[2] or "", 1.0)
    return value if math.isfinite(value) and value >= 0 else None


def _card(text: str, _: Wanted) -> Meant:
    """Return the GPU whose name is most similar to the text, else the default."""
    cards = gpus()
    typed = difflib.SequenceMatcher(b=text.strip().lower().replace(" ", "-")[:_LONGEST])
    alike = dict[str, float]()
    for name in cards:
        typed.set_seq1(name)
        alike[name] = typed.ratio()
    # of two equally near, the one with less memory: what fits there fits on either
    order = sorted(cards, key=lambda name: (-alike[name], cards[name].memory))
    near = [name for name in order if alike[name] >= _ALIKE][:_NEAR]
    name = near[0] if near else Wanted().gpu
    names = f"Similar names: {', '.join(near)}." if near else f"Known: {', '.join(cards)}."
    hint = f"{names} For any other card, give its memory, such as 24GB."
    title = cards[name].title
    return Meant({"gpu": name}, title, title, hint)


_MEANT: Mapping[str, Callable[[str, Wanted], Meant]] = {
    "model": _model, "gpu": _card, "price": _price, "also": _also,
    **{name: partial(_count, name) for name in NUMBERS},
    **{name: partial(_option, name) for name in ("objective", "link", "optimizer", "precision", "adapter_dtype")},
    "deadline": lambda *_: Meant({"deadline": ""}, "no deadline", "no deadline"),
    "packed": lambda *_: Meant({"packed": 0}, "rows that are padded", "padded rows"),
}  # fmt: skip


# ----------------------------------------
# Explain why a request has no feasible plan, and find the nearest plans that work.


#: Evaluates a candidate.
Ask = Callable[[Wanted, Candidate], Planned]
#: Ways to split a 4-bit base, with the text that each adds.
_WAYS = {"fsdp2": "", "fsdp2+offload": ", each with {} offloaded to main memory"}
_COUNTS = (2, 4, 8, 16, 32)
_TRIES = 8  # maximum numbers of rows tried to meet a deadline


@dataclass(frozen=True)
class Way:
    """A plan that works.

    Attributes:
        text: for a sentence. short: for a button.
        changes: the fields of :class:`Wanted` that lead to it.
        made: the plan with these changes, if it was made.
    """

    text: str
    short: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    made: Planned | None = None


def options_of(changes: Mapping[str, Any]) -> str:
    """Return fields of :class:`Wanted` as command-line options."""
    names = {name: f"--{name.replace('_', '-')}" for name in changes}
    return " ".join(
        f"no {names[name]}" if value in ("", None) else f"{names[name]} {value}"
        for name, value in changes.items()
    )


@dataclass(frozen=True)
class Nearest:
    """A request that does not work, and the nearest plans that do."""

    problem: str
    ways: tuple[Way, ...] = ()

    def __str__(self) -> str:
        return self.told(options=False)

    def told(self, options: bool = True) -> str:
        """Return it as a sentence, with the command-line options of each way."""
        if not self.ways:
            return f"{self.problem} We know of nothing that works."
        shown = (
            f"{way.text} ({options_of(way.changes)})" if options and way.changes else way.text
            for way in self.ways
        )  # fmt: skip
        return f"{self.problem} The nearest that works: {'; or '.join(shown)}."


def nearest(wanted: Wanted, ask: Ask) -> Nearest:
    """Return the nearest plans that work for a model that does not fit in any way."""
    situation = wanted.situation()
    card = (
        situation.hardware.title
        if wanted.devices == 1
        else f"{wanted.devices:,} × {situation.hardware.title}"
    )
    ways = list(_split_over_more(wanted, ask))
    for way in _others(wanted):
        there = replace(wanted, **way.changes)  # which may be invalid, as not every model packs rows
        made = None if there.problems() else ask(there, Candidate("qlora", "none", True))
        if made is not None and made.plan is not None:
            ways.append(replace(way, made=made))
    return Nearest(f"{situation.shape.title} does not fit on {card}.", tuple(ways))


def _split_over_more(wanted: Wanted, ask: Ask) -> tuple[Way, ...]:
    """Return the fewest cards of this kind over which QLoRA can be split, if any of the known numbers does."""
    situation = wanted.situation()
    for devices in _COUNTS:
        if devices <= wanted.devices or situation.hardware.kind != "cuda":
            continue
        more = replace(wanted, devices=devices)
        for way, offloaded in _WAYS.items():
            made = ask(more, Candidate("qlora", way, True))
            if made.plan is not None:
                where = offloaded.format(units.size(made.plan.host_bytes)) if offloaded else ""
                text = f"QLoRA sharded over {devices} of these cards with FSDP2{where}"
                return (Way(text, f"{units.in_words(devices)} cards", {"devices": devices}, made),)
    return ()


def _others(wanted: Wanted) -> Iterator[Way]:
    """Yield another device, and a smaller model, with which a QLoRA step has room."""
    situation, room = wanted.situation(), ranking.room_for(wanted)
    device = larger_device(situation, room)
    if device is not None:
        yield Way(f"QLoRA on one {device.title}", f"one {device.title}", {"gpu": device.name, "devices": 1})
    title = smaller_model(situation, room, "qlora")
    for name in [name for name, entry in catalogue().items() if entry.title == title][:1]:
        yield Way(f"QLoRA of {title}", f"{title}", {"model": name})


# -- deadlines ---------------------------------------------------------------------------------------------------------


def quickest(ranked: Sequence[Planned]) -> Planned | None:
    """Return the plan with the earliest certain end; ``None`` if no speed is known."""
    timed = [(one.hours[1], number) for number, one in enumerate(ranked) if one.hours is not None]
    return ranked[min(timed)[1]] if timed else None


def _takes(one: Planned) -> str:
    assert one.hours is not None
    return units.span(one.hours[0] * HOUR, one.hours[1] * HOUR)


def too_late(wanted: Wanted, ranked: Sequence[Planned]) -> str:
    """Return a sentence that no plan is sure to meet the deadline, with the time of the quickest; empty if one is
    sure to, there is no deadline, or no speed is known."""
    left, best = wanted.hours(), quickest(ranked)
    if left is None or best is None or best.hours is None or best.hours[1] <= left:
        return ""
    within = units.several(f"{left:,.3g}", "hour")
    return f"No plan is sure to finish within {within}. The fastest, {best.title}, takes {_takes(best)}."


def meeting(wanted: Wanted, best: Planned, ask: Ask) -> tuple[Way, ...]:
    """Return ways to end in time if ``best``, the quickest, does not: more cards, fewer rows, a later deadline."""
    left = wanted.hours()
    assert left is not None and best.hours is not None
    found = [_more_cards(wanted, best, left, ask), _fewer_rows(wanted, best, left, ask)]
    last = until_deadline(best)
    last = replace(last, text=last.short)  # the quickest's time was given before
    return (*(way for way in found if way is not None), last)


def _more_cards(wanted: Wanted, best: Planned, left: float, ask: Ask) -> Way | None:
    """Return the fewest cards on which the same method ends in time."""
    if wanted.situation().hardware.kind != "cuda":
        return None
    several = "ddp" if best.candidate.sharding == "none" else best.candidate.sharding
    for devices in _COUNTS:
        if devices <= wanted.devices or (several == TENSOR and devices % wanted.devices):
            continue
        made = ask(replace(wanted, devices=devices), replace(best.candidate, sharding=several))
        if made.hours is not None and made.hours[1] <= left:
            text = f"{devices} of these cards, where {made.title} takes {_takes(made)}"
            return Way(text, f"{devices} of these cards", {"devices": devices})
    return None


def _fewer_rows(wanted: Wanted, best: Planned, left: float, ask: Ask) -> Way | None:
    """Return about as many rows as there is time for. Fewer rows are read more often, so numbers are tried."""
    made, rows = best, wanted.rows
    for _ in range(_TRIES if not wanted.packed else 0):
        assert made.hours is not None
        rows = int(min(rows - 1, rows * left / made.hours[1]))
        rows -= rows % 10 ** max(0, len(str(rows)) - 2)  # two digits
        if rows < 1:
            return None
        made = ask(replace(wanted, rows=rows), best.candidate)
        if made.hours is None:
            return None
        if made.hours[1] <= left:
            text = f"{rows:,} of the {units.several(wanted.rows, 'row')}, for which {made.title} takes {_takes(made)}"
            return Way(text, units.several(rows, "row"), {"rows": rows})
    return None


def until_deadline(best: Planned) -> Way:
    """Return the deadline in hours that the quickest plan meets."""
    assert best.hours is not None
    scale = 10 if best.hours[1] < 10 else 1
    hours = f"{math.ceil(best.hours[1] * scale) / scale:.1f}".removesuffix(".0")
    short = f"a deadline of {units.several(hours, 'hour')}"
    text = f"{short}: the fastest, {best.title}, takes {_takes(best)}"
    return Way(text, short, {"deadline": hours})


# ----------------------------------------
# What to buy: the memory that a card needs, by method and number of cards.


COUNTS = (1, 2, 4, 8)
OF_RANK = ("adapter", "gradients", "optimizer")  # parts of a step's memory that shrink with the rank


@dataclass(frozen=True)
class Need:
    """The memory for one checkpointed row. ``card``: the smallest known card that has it; empty if none has.

    ``parts``: of an adapter method on one card, its bytes by what they are for, those of :data:`OF_RANK` apart.
    """

    method: str
    cards: int
    nbytes: int
    card: str
    parts: Mapping[str, int] = field(default_factory=dict)


def need(fields: Mapping[str, Any], method: str, cards: int) -> Need:
    """Return the memory that each of that many cards must have. Imports torch. Raises BadInput, SimulationError if the
    request is invalid, or the step cannot be simulated."""
    wanted = replace(Wanted(**fields), devices=cards).check()
    situation = wanted.situation()
    room = room_for(wanted)
    spec = get_method(method)
    values = spec.require(situation.shape, advice_for(situation, room, method).knobs(situation.shape))
    taken, run = room.leanest(method, values, "none" if cards == 1 else SPLIT)
    usable = 1 - (HEADROOM if cards == 1 else HEADROOM_SPLIT)
    by_memory = sorted(gpus().values(), key=lambda card: card.memory)
    smallest = next((card for card in by_memory if card.memory * usable >= taken), None)
    parts = dict[str, int]()
    if cards == 1 and method != "full":
        step = simulate(request(situation, method, values, run)).parts
        parts = {"weights": step["weights"] + step["quantisation"]} | {name: step[name] for name in OF_RANK}
        # and all else that the step and its allocator hold
        parts["activations"] = taken - sum(parts.values())
    return Need(method, cards, taken, smallest.title if smallest else "", parts)


_WHOLE = re.compile(r"-?[0-9]{1,15}")
_LARGEST = 1e15  # below this, a browser tells numbers from their neighbours
_LETTERS = 80  # of a name that are kept
_ROUNDS = 6  # one field's correction may contradict another field


@dataclass(frozen=True)
class Unread:
    """A field's text that cannot be read as a value, and why."""

    text: str
    error: BadInput


@dataclass(frozen=True)
class PlanRequest:
    """A request. ``wanted`` has defaults in place of the ``unread`` fields."""

    wanted: Wanted
    unread: Mapping[str, Unread] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return a field's text as given."""
        return self.unread[name].text if name in self.unread else str(getattr(self.wanted, name, ""))

    def problems(self) -> tuple[BadInput, ...]:
        """Return what cannot be read, contradicts itself, or is an unknown name: at most one per field."""
        found: dict[str | None, BadInput] = {name: one.error for name, one in self.unread.items()}
        wanted = self.wanted
        if "seq" in self.unread and wanted.row_tokens > wanted.seq:  # it has no limit of its own
            wanted = replace(wanted, seq=holding(wanted.model, wanted.row_tokens))
        for problem in wanted.problems():
            found.setdefault(problem.field, problem)
        return tuple(found.values())

    def put(self, changes: Mapping[str, Any]) -> PlanRequest:
        """Return the request with other values; these fields are no longer unread."""
        left = {name: one for name, one in self.unread.items() if name not in changes}
        return PlanRequest(replace(self.wanted, **changes), left)


def ask(told: Mapping[str, str]) -> PlanRequest:
    """Return the request that texts give. A field that is missing or cannot be read gets its default; ``row_tokens``
    alone sets ``seq``."""
    read, wrong = Wanted.parse(told)
    wanted = replace(Wanted(), **read)
    if "row_tokens" in read and "seq" not in read:
        wanted = replace(wanted, seq=holding(wanted.model, wanted.row_tokens))
    return PlanRequest(wanted, {name: Unread(told[name], error) for name, error in wrong.items()})


def as_typed(name: str, text: str) -> Any:
    """Return a text as its field's control would hold it if it were typed there, sensible or not; ``None`` if the
    control cannot hold it."""
    text = text.strip()
    if name in NUMBERS:
        bare = text.replace(",", "").replace("_", "")
        return int(bare) if _WHOLE.fullmatch(bare) else None
    if name == "price":
        try:
            value = float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) and abs(value) < _LARGEST else None
    return None if name in ("model", "packed") else text[:_LETTERS]


@dataclass(frozen=True)
class Mended:
    """What was probably meant.

    Attributes:
        each: every problem with its correction; ``None`` where there is none.
        several: all corrections; ``None`` if they do not make a valid request. asked: the corrected request.
    """

    each: Sequence[tuple[BadInput, Meant | None]]
    several: Sequence[Meant] | None
    asked: PlanRequest


def mend(asked: PlanRequest) -> Mended:
    """Return what was probably meant by an invalid request."""

    def of(now: PlanRequest, error: BadInput) -> Meant | None:
        found = meant(error.field, now.text(error.field or ""), now.wanted)
        if found is None or any(one.field == error.field for one in now.put(found.changes).problems()):
            return None
        return found

    each = [(error, of(asked, error)) for error in asked.problems()]
    now, several = asked, list[Meant]()
    for _ in range(_ROUNDS):
        problems = now.problems()
        for error in problems:
            found = meant(error.field, now.text(error.field or ""), now.wanted)
            if found is None:
                return Mended(each, None, asked)
            several = [one for one in several if not one.changes.keys() & found.changes.keys()] + [found]
            now = now.put(found.changes)
        if not problems:
            return Mended(each, several, now)
    return Mended(each, None, asked)
