"""What is asked next: a follow-up with its own answer, or one that leads to a question of the bank.

In a bank file::

    follow_ups=(
        then("And A = 0 instead?", "The same at step 0: ...", f"{src.LORA}, section 4.1", opens=lab("lora", r=16)),
        then("How large is it at twice the rank?", "{{value}}.", src.ALGEBRA, calculate=calc.doubled),
        then("Why is that so?", to="lora-why-b-zero"),
    )

They are asked one after the other, so each may build on the one before. Texts are templates like those of
:class:`peft_lab.quiz.question.Question`, about the same model with the same givens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from peft_lab.quiz.computed import Answer, Case

Calculation = Callable[[Case], Answer]
Setting = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True)
class Opens:
    """A setting of the Lab. ``page``: its slug; ``values``: what its address says, by the names of its controls."""

    page: str
    values: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class FollowUp:
    """One follow-up. Exactly one of ``answer`` and ``leads_to`` is given.

    Attributes:
        question, answer: templates.
        leads_to: id of a question of the bank that asks just this; its answer is the answer.
        sources: where the answer comes from.
        calculate: the calculation for its number, on the case of the question that it follows; it fills ``{{value}}``
            and what it names.
        opens: where the Lab shows it.
    """

    question: str
    answer: str = ""
    leads_to: str = ""
    sources: tuple[str, ...] = ()
    calculate: Calculation | None = None
    opens: Opens | None = None


def then(
    question: str,
    answer: str = "",
    *sources: str,
    to: str = "",
    calculate: Calculation | None = None,
    opens: Opens | None = None,
) -> FollowUp:
    """A follow-up in a bank file: the question, the answer, and any number of sources."""
    return FollowUp(question, answer, to, sources, calculate, opens)


def lab(page: str, **values: Setting) -> Opens:
    """A setting of the Lab: a page and what its address says."""
    return Opens(page, values)
