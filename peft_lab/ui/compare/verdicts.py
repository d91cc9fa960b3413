"""What the sweep says of the rules in the literature: seen here, not seen here, not testable here."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.models.catalogue import get_model
from peft_lab.recipes.recipe import all_rules
from peft_lab.recipes.replications import Replication, Verdict, measured, replications
from peft_lab.sweep.groups import SURE
from peft_lab.ui.components import figures


def section() -> None:
    """A table of the rules that were tried, and why the others were not."""
    rules = {rule.id: rule for rule in all_rules()}
    found = replications()
    tried = {name: one for name, one in found.items() if one.value is not None}
    st.markdown(f"#### Do the rules of the literature show? {figures.badge('measured')}")
    st.markdown(
        f"Intervals hold with {SURE:.0%}: Student's t over groups of trainings that share model, batch and seed, each "
        "the mean of its paired differences (Ibragimov & Müller). They are about other seeds, not about other "
        "held-out rows. Seen: the interval lies within what the rule "
        "expects; not seen: it lies outside; open: it reaches over the edge, or there is a single group."
    )
    models = list(dict.fromkeys(model for one in tried.values() for model, _ in one.models))
    alone = models if len(models) > 1 else []
    figures.table(
        (
            "Figure",
            "Verdict",
            "Expected (cited)",
            "Here (measured)",
            "Rule of",
            *(get_model(m).title for m in alone),
        ),
        [
            (
                one.what,
                _verdict(one),
                figures.whole(one.limits),
                figures.whole(one.measured),
                rules[name].citation,
                *_models(one, alone),
            )
            for name, one in tried.items()
        ],
        fold=True,
    )
    with st.expander("How each figure was taken"):
        st.markdown(f":small[Groups and trainings are those behind the figure.] {figures.badge('measured')}")
        figures.table(
            ("Figure", "How", "Groups", "Trainings"),
            [(one.what, one.note, str(one.groups), units.count(one.runs)) for one in tried.values()],
            numeric=(2, 3),
            fold=True,
        )
    reasons: dict[str, list[str]] = {}
    for name, one in found.items():
        if name not in tried:
            reasons.setdefault(one.note, []).append(rules[name].citation)
    with st.expander(f"Not testable here: {sum(map(len, reasons.values()))} rules, and why"):
        st.markdown(f":small[A rule is what one source says of one setting.] {figures.badge('cited')}")
        figures.table(
            ("Why", "Rules of"),
            [
                (why[:1].upper() + why[1:], "; ".join(dict.fromkeys(citations)))
                for why, citations in reasons.items()
            ],
            fold=True,
        )


def _verdict(one: Replication) -> str:
    """In a word or two; a figure of a single group is open."""
    verdict = Verdict.OPEN if one.verdict is Verdict.NOT_TESTABLE else one.verdict
    return verdict.partition(":")[0]


def _models(one: Replication, models: list[str]) -> list[str]:
    own = dict(one.models)
    return [figures.whole(measured(own[model], one.unit)) if model in own else "–" for model in models]
