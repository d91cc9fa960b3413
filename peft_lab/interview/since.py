"""Read what was found about a method since its paper: ``interview/content/discoveries/<slug>.yaml``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import disk, units
from peft_lab.core.content import Citation, CitingText, by_name, read_table
from peft_lab.core.references import BENCH, Fact
from peft_lab.engine.published import ADDRESS, literature, rows
from peft_lab.interview.question import Opens, read_opens
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import catalogue

# ----------------------------------------
# A discovery: what was found, by whom, what follows from it, and one way to see it.


CONTENT = Path(__file__).with_name("content") / "discoveries"
Figure = Callable[[], str]
_YEAR = re.compile(r"\b(20\d\d)\b")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_SITE = re.compile(r", ((?:[\w-]+\.)+[a-z]{2,}/\S+)$")


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """One discovery about a method, made after its paper.

    ``found`` and ``follows`` are sentences without figures of their own: ``{name}`` marks the place of one, and
    ``figures`` says which of the :data:`FIGURES` it is, and of which row or paper.

    Attributes:
        id: unique among all; starts with the method's slug.
        title: a few words.
        found: the discovery. follows: what it means for a learner of the method.
        source: one of :mod:`peft_lab.core.references`. place: where in it.
        version: of the text that was read.
        dated: the year of a source whose reference has none, such as documentation.
        figures: name -> function that returns the figure as text; in the file ``right EXPERIMENT`` or the like.
        experiment: id of an experiment that shows it at this lab's size. expects: whether the experiment's own
            expectation holds if the discovery shows; ``None`` if it is related but does not test the discovery.
        rows: published experiments that show it. opens: a state of the Lab that shows it. One of the three is given.
        facts: what it states, in the form that is compared with the tree's advice, claims, questions and recipes.
    """

    id: str
    title: str
    found: str
    follows: str
    source: Citation
    place: CitingText
    version: str = ""
    dated: int = 0
    figures: Mapping[str, Figure] = field(default_factory=dict)
    experiment: str = ""
    expects: bool | None = None
    rows: tuple[str, ...] = ()
    opens: Opens | None = None
    facts: tuple[Fact, ...] = ()

    @property
    def year(self) -> int:
        """Return the year of publication; for documentation the year it was read."""
        named = _YEAR.search(self.source)
        return int(named[1]) if named else self.dated

    @property
    def address(self) -> str:
        """Return the URL of the source's page; empty if its reference names none.

        >>> from peft_lab.core import references as src
        >>> Discovery(id="", title="", found="", follows="", place=CitingText(""), source=Citation(src.LORA)).address
        'https://arxiv.org/abs/2106.09685'
        """
        if self.source == BENCH:
            return ADDRESS
        paper, site = _ARXIV.search(self.source), _SITE.search(self.source)
        return f"https://arxiv.org/abs/{paper[1]}" if paper else f"https://{site[1]}" if site else ""

    @property
    def said(self) -> str:
        """Return the discovery as text, with its figures filled in."""
        return self.found.format_map({name: write() for name, write in self.figures.items()})


@cache
def of_method(slug: str) -> tuple[Discovery, ...]:
    """Return the discoveries about a method, in display order; empty if there are none."""
    path = CONTENT / f"{slug}.yaml"
    return tuple(read_table([path], Discovery, "id", _CONVERTERS).values()) if path.exists() else ()


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
    """The conclusion of one experiment. ``text``: as :func:`peft_lab.studies.experiments.conclude` writes it.
    ``holds``: whether it came out as expected. ``date, machine, packages``: when, where and with which libraries."""

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
# Figures for the sentences of discoveries: of a published row, as printed in a paper, or of the catalogue.


def right(experiment: str) -> Figure:
    """Return a function for the share of right answers in a published row. Raises ValueError if there is none.

    >>> right("lora--llama-3.2-3B-rank32")()
    '47.8%'
    """
    row = by_name(rows(), "published row")(experiment)
    return lambda: f"{row.accuracy:.1%}"


def trained(experiment: str) -> Figure:
    """Return a function for the trained parameters of a published row, abbreviated. Raises ValueError as above."""
    row = by_name(rows(), "published row")(experiment)
    return lambda: units.short_count(row.trainable)


def printed(name: str) -> Figure:
    """Return a function for a figure of a paper, without its unit. Raises ValueError if there is none.

    >>> printed("tiny-parameters")()
    '13'
    """
    figure = by_name(literature(), "printed figure")(name)
    return lambda: f"{figure.value:,g}"


def models(which: str) -> Figure:
    """Return a function for a number of models of the catalogue: those ``listed``, or ``without biases``."""
    counted = {
        "listed": lambda: str(len(catalogue())),
        "without biases": lambda: str(sum(not tuple(entry.shape.biases) for entry in catalogue().values())),
    }
    return by_name(counted, "number of models")(which)


FIGURES = {"right": right, "trained": trained, "printed": printed, "models": models}


def _figure(text: Any) -> Figure:
    kind, _, of = str(text).partition(" ")
    return by_name(FIGURES, "kind of figure")(kind)(of)


_CONVERTERS = {Figure: _figure, Opens: read_opens}
