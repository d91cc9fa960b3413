"""Define tours: stops, each a page with exact settings and a few words, validated before it is shown; and a learner's
progress."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import units
from peft_lab.core.content import misfit, read_entry, read_typed
from peft_lab.core.disk import parse_json
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview.learners.schedule import Learners
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import catalogue

# The path that every newcomer is offered is ``interview/content/tours/newcomer.yaml``.


NEWCOMER = Path(__file__).parent / "content" / "tours" / "newcomer.yaml"
MOST_STOPS = 40
MOST_SETTINGS = 60
MOST_MOVES = 8
LONGEST_TITLE = 80
LONGEST_TEXT = 800
LONGEST_VALUE = 300
MOST_MINUTES = 60
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
# Parameters of an address that are not settings of a page but of what surrounds it.
RESERVED = ("stop", "fixed", "projector", "path")
# What an older address calls a page, what that is now, and which of its settings have another name.
_MOVED: dict[str, tuple[str, dict[str, str]]] = {
    "fact_check": ("myths", {}),
    "misconceptions": ("myths", {"belief": "claim"}),
}


def moved(page: str, settings: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the page and settings that an address names, in its old or its new words.

    >>> moved("misconceptions", {"belief": "predict-alpha"}), moved("practice", {"tab": "predict", "topic": "lora"})
    (('myths', {'claim': 'predict-alpha'}), ('myths', {'topic': 'lora'}))
    """
    if page == "practice" and settings.get("tab") == "predict":
        kept = ("topic", "belief", *RESERVED)
        return moved("misconceptions", {name: value for name, value in settings.items() if name in kept})
    now, names = _MOVED.get(page, (page, {}))
    return now, {names.get(name, name): value for name, value in settings.items()}


@dataclass(frozen=True)
class Stop:
    """One stop.

    Attributes:
        page: name of the page, as in its address.
        settings: the settings in the page's address, as text: all that differ from the page's defaults, and those that
            are fixed, whatever their default.
        read, move, see: what to do there, one or two sentences each; empty for a stop that was just added.
        minutes: approximate duration.
        fixed: settings that the learner cannot change; each has its value in ``settings``.
        at: the setting whose control the text is about, or ``train``; the bar points at it and notices a change.
        moves: if there is more to do than change that control once, each change in order: ``name`` of a setting that
            then has another value, or ``name=value`` that it then has.
    """

    page: str
    title: str
    settings: Mapping[str, str] = field(default_factory=dict)
    read: str = ""
    move: str = ""
    see: str = ""
    minutes: int = 2
    fixed: tuple[str, ...] = ()
    at: str = ""
    moves: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[tuple[str, str], ...]:
        """Return the actions here, in order: a setting's name (or ``train``), and its new value or an empty text."""
        asked = self.moves or ((self.at,) if self.at else ())
        return tuple((name, value) for name, _, value in (move.partition("=") for move in asked))

    def check(self, pages: Collection[str]) -> Stop:
        """Validate the stop and return it.

        Raises:
            BadInput: there is no such page, the title is missing, a text is too long, or a setting is invalid.
        """
        if self.page not in pages:
            raise UnknownName("page", self.page, pages, "page")
        controls = [*((self.at,) if self.at else ()), *(name for name, _ in self.steps)]
        foreign = [name for name in self.settings if not _NAME.fullmatch(name) or name in RESERVED]
        for wrong, name, sentence in (
            (not self.title.strip(), "title", "A stop has no title. Give every stop a title."),
            (
                not 1 <= self.minutes <= MOST_MINUTES,
                "minutes",
                f"A stop must take 1 to {MOST_MINUTES} minutes.",
            ),
            (len(self.moves) > MOST_MOVES, "moves", f"A stop can have at most {MOST_MOVES} changes."),
            (
                len(self.settings) > MOST_SETTINGS,
                "settings",
                f"A stop can have at most {MOST_SETTINGS} settings.",
            ),
            *(
                (not _NAME.fullmatch(control), "moves", f"'{control[:40]}' is not a control of any page.")
                for control in controls
            ),
            *((True, "settings", f"'{name[:40]}' is not a setting of any page.") for name in foreign),
            *(
                (
                    setting not in self.settings,
                    "fixed",
                    f"'{setting[:40]}' is locked but has no value. Give it a value.",
                )
                for setting in self.fixed
            ),
        ):
            if wrong:
                raise BadInput(sentence, name)
        for name, text in (("read", self.read), ("move", self.move), ("see", self.see)):
            _words(name, text, LONGEST_TEXT)
        _words("title", self.title, LONGEST_TITLE)
        for name, value in [*self.settings.items(), *(("moves", value) for _, value in self.steps)]:
            _words(name, value, LONGEST_VALUE)
        return self

    def _moved(self) -> Stop:
        """Return the stop with its page and settings as they are called now."""
        page, settings = moved(self.page, self.settings)
        fixed = tuple(name for name in self.fixed if name in settings)
        return replace(self, page=page, settings=settings, fixed=fixed) if page != self.page else self


@dataclass(frozen=True)
class Tour:
    """A title and its stops, in order."""

    title: str
    stops: tuple[Stop, ...]

    @property
    def id(self) -> str:
        """Return ten hexadecimal digits that identify a path: equal content, equal id."""
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def length(self) -> str:
        """Return the number of stops in words: '1 stop', '12 stops'."""
        return f"{len(self.stops)} stop{'' if len(self.stops) == 1 else 's'}"

    @property
    def minutes(self) -> int:
        return sum(stop.minutes for stop in self.stops)

    def replaced(self, index: int, *stops: Stop) -> Tour:
        """Return the path with these stops, or none, in the place of one."""
        return replace(self, stops=(*self.stops[:index], *stops, *self.stops[index + 1 :]))

    def swapped(self, index: int) -> Tour:
        """Return the path with a stop and the one after it in turned order."""
        first, second = self.stops[index : index + 2]
        return self.replaced(index, second).replaced(index + 1, first)

    def check(self, pages: Collection[str]) -> Tour:
        """Validate the path and return it. Raises :class:`BadInput` as :meth:`Stop.check`, naming the stop."""
        _words("title", self.title, LONGEST_TITLE)
        if not self.title.strip():
            raise BadInput("The path has no title. Give it one.", "title")
        if not 1 <= len(self.stops) <= MOST_STOPS:
            raise BadInput(f"A path must have 1 to {MOST_STOPS} stops, not {len(self.stops)}.", "stops")
        for number, stop in enumerate(self.stops, start=1):
            try:
                stop.check(pages)
            except BadInput as error:
                raise BadInput(f"Stop {number}: {error}", error.field) from error
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the path as JSON-able values; empty fields are left out."""
        stated = [{name: value for name, value in asdict(stop).items() if value} for stop in self.stops]
        lists = [
            {name: list(value) if isinstance(value, tuple) else value for name, value in stop.items()}
            for stop in stated
        ]
        return {"title": self.title, "stops": lists}

    @classmethod
    def from_dict(cls, data: Any, pages: Collection[str]) -> Tour:
        """Rebuild a path from :meth:`to_dict` and validate it. Raises BadInput: the data is damaged, or the path cannot
        be followed here."""
        wrong = misfit({"title": str, "stops": list}, data) if isinstance(data, dict) else "title"
        if wrong:
            raise BadInput(f"This path is damaged: its {wrong} is missing or invalid.", "path")
        stops = tuple(Stop(**read_typed(Stop, stop, "A stop"))._moved() for stop in data["stops"])
        return cls(data["title"], stops).check(pages)


@cache
def newcomer() -> Tour:
    """Return the newcomer's path."""
    return read_entry(NEWCOMER, Tour)


def _words(name: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise BadInput(f"'{name}' has {len(text)} characters. Shorten it to {longest}.", name)
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Cn") and letter != "\n" for letter in text):
        raise BadInput(f"'{name}' contains characters that cannot be shown. Remove them.", name)


# ----------------------------------------
# Computed numbers in a path's texts: ``{count}`` and ``{count r=16}`` become what the method trains there.


_PATH_PLACE = re.compile(r"\{count(?: ([a-z_0-9]+=[^}\s]+(?: [a-z_0-9]+=[^}\s]+)*))?\}")


def fill(stop: Stop, text: str) -> str:
    """Return the text with its numbers filled in: trained parameters by the closed formula, which equals the count.

    Raises:
        BadInput: the stop's page is not a method's, it names no model, or the method does not take its settings.
    """

    def number(found: re.Match[str]) -> str:
        if stop.page not in all_methods() or "model" not in stop.settings:
            raise BadInput(f"The stop '{stop.title}' has no method or no model, so nothing can be counted.")
        spec = get_method(stop.page)
        texts = {**stop.settings, **dict(part.split("=", 1) for part in (found[1] or "").split())}
        shape = catalogue()[texts["model"]].shape
        values = {knob.name: knob.parse(texts[knob.name]) for knob in spec.knobs if knob.name in texts}
        return units.count(spec.formula(shape, spec.require(shape, values)).trainable)

    return _PATH_PLACE.sub(number, text)


# ----------------------------------------
# A path as a file, JSON, or as part of a link, the same compressed.


FORMAT = "peft-lab-path"
VERSION = 1
LARGEST = 256_000  # bytes of JSON, uncompressed: forty stops with all texts at their longest need fewer
LONGEST_LINK = 6_000  # characters; servers and messengers cut longer addresses


def path_to_file(path: Tour) -> str:
    """Return the content of a path's file."""
    return json.dumps({"format": FORMAT, "version": VERSION, **path.to_dict()}, indent=1, ensure_ascii=False)


def path_from_file(content: bytes, pages: Collection[str]) -> Tour:
    """Rebuild a path from :func:`path_to_file`. Raises :class:`BadInput` for anything else."""
    if len(content) > LARGEST:
        raise BadInput(f"This file is larger than {LARGEST:,} bytes, so it is not a path.", "path")
    try:
        data = parse_json(content)
    except ValueError as error:
        raise BadInput("This file is not valid JSON. Choose a path file.", "path") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise BadInput("This file is not a path that this PEFT Lab reads. Choose another file.", "path")
    return Tour.from_dict(data, pages)


def pack_path(path: Tour) -> str:
    """Return a path as text for an address. Raises BadInput: it would be longer than addresses safely are."""
    text = json.dumps(path.to_dict(), separators=(",", ":"), ensure_ascii=False)
    packed = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    if len(packed) > LONGEST_LINK:
        raise BadInput(
            f"The link would have {len(packed):,} characters; links of more than {LONGEST_LINK:,} may be cut off. "
            "Share the path as a file.",
            "path",
        )
    return packed


def unpack_path(text: str, pages: Collection[str]) -> Tour:
    """Rebuild a path from :func:`pack_path`. Raises :class:`BadInput` for anything else."""
    if len(text) > LONGEST_LINK:
        raise BadInput("This link is too long to be a path. Ask for the link again.", "path")
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        opener = zlib.decompressobj()
        content = opener.decompress(packed, LARGEST)
        if not opener.eof:
            raise ValueError("cut off, or larger than any path")
        data = parse_json(content)
    except (ValueError, zlib.error) as error:
        raise BadInput("The path in this link is damaged. Ask for the link again.", "path") from error
    return Tour.from_dict(data, pages)


FIRST = "newcomer"  # the id of the path that every learner has
_PATHS = "paths"
_PLACE = "place"
_LAST = "last-path"


@dataclass(frozen=True)
class Progress:
    """``at``: the stop last opened, ``None`` before the first; ``visited``: all stops opened; ``done``: those whose
    control was changed."""

    at: int | None = None
    visited: frozenset[int] = frozenset()
    done: frozenset[int] = frozenset()


def progress(file: Learners, learner: str, identity: str) -> Progress:
    """Return the learner's progress on a path. Raises :class:`UnknownName` if there is no such learner."""
    kept = file.kept(learner, f"{_PLACE}.{identity}")
    if kept is None:
        return Progress()
    try:
        visited, done = (
            frozenset(int(index) for index in kept.get(name, ())) for name in ("visited", "done")
        )
        return Progress(int(kept["at"]), visited, done)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{learner}'s place on the path cannot be read: {kept!r}"[:200]) from error


def visit(file: Learners, learner: str, identity: str, index: int, done: bool = False) -> None:
    """Record that a stop was opened; ``done``: that its control was changed, too."""
    before = progress(file, learner, identity)
    finished = before.done | ({index} if done else set())
    kept = {"at": index, "visited": sorted(before.visited | {index}), "done": sorted(finished)}
    file.keep(learner, f"{_PLACE}.{identity}", kept)
    file.keep(learner, _LAST, identity)


def last(file: Learners, learner: str) -> str:
    """Return the id of the path the learner was on last; initially the newcomer's."""
    return str(file.kept(learner, _LAST, FIRST))


def start_over(file: Learners, learner: str, identity: str) -> None:
    """Reset the learner's progress on a path."""
    file.keep(learner, f"{_PLACE}.{identity}", None)


def paths(file: Learners, learner: str, pages: Collection[str]) -> dict[str, Tour]:
    """Return the paths that the learner can follow, by id: the newcomer's and those added."""
    kept: list[Any] = file.kept(learner, _PATHS, [])
    found = [Tour.from_dict(entry, pages) for entry in kept]
    return {FIRST: newcomer()} | {path.id: path for path in found}


def take_in(file: Learners, learner: str, path: Tour, pages: Collection[str]) -> str:
    """Add a teacher's path to the learner's and return its id. A path that is there already is not added twice."""
    known = paths(file, learner, pages)
    identity = FIRST if path == newcomer() else path.id
    if identity not in known:
        own = [each.to_dict() for name, each in known.items() if name != FIRST]
        file.keep(learner, _PATHS, [*own, path.to_dict()])
    return identity


def let_go(file: Learners, learner: str, identity: str, pages: Collection[str]) -> None:
    """Remove a path that was added, and the progress on it."""
    own = {name: each for name, each in paths(file, learner, pages).items() if name not in (FIRST, identity)}
    file.keep(learner, _PATHS, [each.to_dict() for each in own.values()])
    start_over(file, learner, identity)


# ----------------------------------------
# The draft of a path that somebody is making, stored under their name: it may be empty, and survives restarts.


_DRAFT = "draft-path"
UNTITLED = "My path"


def load_draft(file: Learners, name: str, pages: Collection[str]) -> Tour:
    """Return the draft, empty if there is none. Raises :class:`BadInput` if it cannot be followed here."""
    kept = file.kept(name, _DRAFT)
    if kept is None:
        return Tour(UNTITLED, ())
    if kept.get("stops") == []:
        return Tour(str(kept["title"]), ())
    return Tour.from_dict(kept, pages)


def save_draft(file: Learners, name: str, path: Tour, pages: Collection[str]) -> None:
    """Store the draft. Raises :class:`BadInput`, storing nothing, if it cannot be followed."""
    if path.stops:
        path.check(pages)
    file.keep(name, _DRAFT, path.to_dict())
