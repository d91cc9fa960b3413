"""What was found about a method since its paper; each method's own stand in a module of its slug.

``interview/discoveries/<slug>.py`` defines ``SINCE``, a tuple of :class:`Discovery`; nothing else lists it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import units
from peft_lab.core.facts import Fact
from peft_lab.core.references import BENCH
from peft_lab.engine.published import ADDRESS
from peft_lab.engine.published.rows import literature, rows
from peft_lab.interview.question import Opens
from peft_lab.methods import all_methods, module_of

# ----------------------------------------
# What a discovery is: what was found, by whom, what follows from it, and the one thing by which to see it.


_YEAR = re.compile(r"\b(20\d\d)\b")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_SITE = re.compile(r", ((?:[\w-]+\.)+[a-z]{2,}/\S+)$")


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """One discovery about a method, made after its paper.

    ``found`` and ``follows`` are sentences without a figure of their own: ``{name}`` stands where one belongs, and
    ``figures`` reads it from a published row or from the file of printed figures.

    Attributes:
        id: unique among all; starts with the method's slug.
        title: a few words.
        found: what was found. follows: what that means for somebody who learns the method.
        source: one of :mod:`peft_lab.core.references`. place: where in it.
        version: of the text in which it was looked up.
        dated: the year of a source whose reference has none, such as a documentation.
        figures: name -> what writes the figure.
        experiment: id of an experiment that shows it at this lab's size. expects: whether that comes out as its own
            expectation says if the discovery shows; ``None`` where it is beside the discovery and no test of it.
        rows: published experiments that show it. opens: a setting of the Lab that shows it. One of the three is given.
        facts: what it says, in the form that is compared with what leaves, claims, questions and recipes say.
    """

    id: str
    title: str
    found: str
    follows: str
    source: str
    place: str
    version: str = ""
    dated: int = 0
    figures: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    experiment: str = ""
    expects: bool | None = None
    rows: tuple[str, ...] = ()
    opens: Opens | None = None
    facts: tuple[Fact, ...] = ()

    @property
    def year(self) -> int:
        """When it was published; of a documentation, when it was read."""
        named = _YEAR.search(self.source)
        return int(named[1]) if named else self.dated

    @property
    def address(self) -> str:
        """The source's own page; empty where its reference names none.

        >>> from peft_lab.core import references as src
        >>> Discovery(id="", title="", found="", follows="", place="", source=src.LORA).address
        'https://arxiv.org/abs/2106.09685'
        """
        if self.source == BENCH:
            return ADDRESS
        paper, site = _ARXIV.search(self.source), _SITE.search(self.source)
        return f"https://arxiv.org/abs/{paper[1]}" if paper else f"https://{site[1]}" if site else ""

    @property
    def said(self) -> str:
        """What was found, with its figures."""
        return self.found.format_map({name: write() for name, write in self.figures.items()})


@cache
def of_method(slug: str) -> tuple[Discovery, ...]:
    """What was found about a method, in the order in which it is shown; empty for a method without any."""
    own = module_of("peft_lab.interview.discoveries", slug)
    return () if own is None else own.SINCE


def all_discoveries() -> tuple[Discovery, ...]:
    """Every one of them, in the order of the methods."""
    return tuple(each for slug in all_methods() for each in of_method(slug))


# ----------------------------------------
# What the experiments behind discoveries showed when they were last run for the lab: ``seen.json``.
#
# ``python -m tools.see_since`` writes it. A page says it beside the experiment, so that a finding which does not
# show at this size is told as such before anybody spends a minute on it.


SEEN_FILE = Path(__file__).with_name("seen.json")


@dataclass(frozen=True)
class Seen:
    """The conclusion of one experiment.

    Attributes:
        text: as :func:`peft_lab.studies.experiments.results.conclude` writes it. holds: whether it came out as
        expected.
        date, machine, packages: when, where and with which libraries.
    """

    text: str
    holds: bool | None
    date: str
    machine: str
    packages: dict[str, str]


@cache
def seen() -> dict[str, Seen]:
    """By the experiment's id."""
    kept: dict[str, Any] = json.loads(SEEN_FILE.read_text("utf-8"))
    return {name: Seen(**found) for name, found in kept.items()}


# ----------------------------------------
# Figures for the sentences of discoveries: of a published row, or as a paper prints them.


def right(experiment: str) -> Callable[[], str]:
    """Share of right answers of a published row.

    >>> right("lora--llama-3.2-3B-rank32")()
    '47.8%'
    """
    return lambda: f"{rows()[experiment].accuracy:.1%}"


def trained(experiment: str) -> Callable[[], str]:
    """Trained parameters of a published row, in short."""
    return lambda: units.short_count(rows()[experiment].trainable)


def printed(name: str) -> Callable[[], str]:
    """A figure of a paper, without its unit.

    >>> printed("tiny-parameters")()
    '13'
    """
    return lambda: f"{literature()[name].value:,g}"
