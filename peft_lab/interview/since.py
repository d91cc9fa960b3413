"""What was found about a method since its paper; each method's discoveries are in a module of its slug.

``interview/discoveries/<slug>.py`` defines ``SINCE``, a tuple of :class:`Discovery`; nothing else lists it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import disk, units
from peft_lab.core.facts import Fact
from peft_lab.core.references import BENCH
from peft_lab.engine.published import ADDRESS
from peft_lab.engine.published.rows import literature, rows
from peft_lab.interview.question import Opens
from peft_lab.methods import all_methods, module_of

# ----------------------------------------
# A discovery: what was found, by whom, what follows from it, and one way to see it.


_YEAR = re.compile(r"\b(20\d\d)\b")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_SITE = re.compile(r", ((?:[\w-]+\.)+[a-z]{2,}/\S+)$")


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """One discovery about a method, made after its paper.

    ``found`` and ``follows`` are sentences without figures of their own: ``{name}`` marks the place of one, and
    ``figures`` reads it from a published row or from the file of printed figures.

    Attributes:
        id: unique among all; starts with the method's slug.
        title: a few words.
        found: what was found. follows: what that means for a learner of the method.
        source: one of :mod:`peft_lab.core.references`. place: where in it.
        version: of the text that was read.
        dated: the year of a source whose reference has none, such as documentation.
        figures: name -> function that returns the figure as text.
        experiment: id of an experiment that shows it at this lab's size. expects: whether the experiment's own
            expectation holds if the discovery shows; ``None`` if it is related but does not test the discovery.
        rows: published experiments that show it. opens: a state of the Lab that shows it. One of the three is given.
        facts: what it states, in the form that is compared with leaves, claims, questions and recipes.
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
        """The year of publication; for documentation the year it was read."""
        named = _YEAR.search(self.source)
        return int(named[1]) if named else self.dated

    @property
    def address(self) -> str:
        """The URL of the source's page; empty if its reference names none.

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
        """What was found, with its figures filled in."""
        return self.found.format_map({name: write() for name, write in self.figures.items()})


@cache
def of_method(slug: str) -> tuple[Discovery, ...]:
    """Return the discoveries about a method, in display order; empty if there are none."""
    own = module_of("peft_lab.interview.discoveries", slug)
    return () if own is None else own.SINCE


def all_discoveries() -> tuple[Discovery, ...]:
    """Return all discoveries, in the order of the methods."""
    return tuple(each for slug in all_methods() for each in of_method(slug))


# ----------------------------------------
# What the experiments behind discoveries showed when they were last run for the lab: ``seen.json``.
#
# ``python -m tools.see_since`` writes it. A page states it beside the experiment, so that nobody spends a minute on a
# finding that does not show at this size without knowing.


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
    """Return what was seen by the experiment's id."""
    kept: dict[str, Any] = disk.read_json(SEEN_FILE)
    return {name: Seen(**found) for name, found in kept.items()}


# ----------------------------------------
# Figures for the sentences of discoveries: of a published row, or as printed in a paper.


def right(experiment: str) -> Callable[[], str]:
    """Return a function for the share of right answers in a published row.

    >>> right("lora--llama-3.2-3B-rank32")()
    '47.8%'
    """
    return lambda: f"{rows()[experiment].accuracy:.1%}"


def trained(experiment: str) -> Callable[[], str]:
    """Return a function for the trained parameters of a published row, abbreviated."""
    return lambda: units.short_count(rows()[experiment].trainable)


def printed(name: str) -> Callable[[], str]:
    """Return a function for a figure of a paper, without its unit.

    >>> printed("tiny-parameters")()
    '13'
    """
    return lambda: f"{literature()[name].value:,g}"
