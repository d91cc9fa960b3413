"""What a discovery is: what was found, by whom, what follows from it, and the one thing by which to see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from peft_lab.facts import Fact
from peft_lab.published import ADDRESS
from peft_lab.quiz.follow_up import Opens
from peft_lab.references import BENCH

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
        source: one of :mod:`peft_lab.references`. place: where in it.
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

        >>> from peft_lab import references as src
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
