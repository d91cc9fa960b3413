"""Parameters: the count, the formula beside it, the treemap, and the same setting on well-known models."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.counting.count import CountReport
from peft_lab.errors import BadInput
from peft_lab.methods.base import Formula, Term
from peft_lab.models.catalogue import catalogue
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.treemap import areas, caption, treemap
from peft_lab.ui.foreign import plain

SHORT = 20  # characters of an expression that is kept on one line


def parameters(choice: Choice, report: CountReport) -> None:
    """Counted figures with the closed formula, which must be equal and says so."""
    formula = choice.spec.formula(choice.shape, choice.values)
    left, right = st.columns([6, 5], gap="large")
    with left:
        st.markdown(f"#### Counted, and calculated by formula {figures.badge(report.source)}")
        _equality(report, formula)
        _substituted(formula)
        _totals(report, formula)
    with right:
        st.markdown("#### Where the parameters are")
        found = areas(report.tree)
        st.plotly_chart(treemap(found), key=f"treemap.{choice.spec.slug}", config=charts.CONFIG)
        st.markdown(f"{caption(found)} {figures.badge(report.source)}")
    st.markdown("#### The same setting on well-known models")
    st.caption(
        "Worked out with the formula above, so no weights are needed. "
        f"To see one of them counted module by module, choose it as the model. {figures.badge('counted')}"
    )
    _other_models(choice)


def _equality(report: CountReport, formula: Formula) -> None:
    st.latex(formula.symbolic)
    if report.formula == report.trainable:
        st.markdown(
            f":green[:material/check: equal] — counted and formula both give **{units.count(report.trainable)}**"
        )
    else:
        st.warning(f"{plain(report.difference)} {figures.badge(report.source)}")


def _substituted(formula: Formula) -> None:
    rows = [
        (
            f"`{term.module.split('{}.')[-1]}`",
            _each(term),
            f"{term.count:,}",
            units.count(term.total),
        )
        for term in formula.terms
    ]
    if len(rows) > 12:
        rest = sum(term.total for term in formula.terms[11:])
        rows = [*rows[:11], (f"and {len(formula.terms) - 11} more", "", "", units.count(rest))]
    rows.append(("Sum", "", "", units.count(formula.trainable)))
    figures.table(("Where", "Each", "×", "Parameters"), rows, numeric=(2, 3))


def _each(term: Term) -> str:
    """``8 · (576 + 192) = 6,144``, which breaks before the equals sign where it has to."""
    plain, number = _plain(term.expression), units.count(term.each)
    if plain in (number, str(term.each)):
        return number
    result = figures.unbroken(f"= {number}")
    return f"{figures.unbroken(plain) if len(plain) <= SHORT else plain} {result}"


def _plain(latex: str) -> str:
    """A term's KaTeX as plain text, for a table cell."""
    return (
        latex.replace(r"\cdot", "·")
        .replace(r"\times", "×")
        .replace("{", "")
        .replace("}", "")
        .replace("\\", "")
    )


def _totals(report: CountReport, formula: Formula) -> None:
    rows = [
        ("Trainable", units.count(report.trainable)),
        ("Share of all", units.percent(report.percent)),
        ("Model with the method", units.count(report.total)),
        ("Added to the model", units.count(formula.added)),
        ("Stored parameters", units.count(report.stored_parameters - report.head)),
        ("Stored file", f"{units.size(report.stored_bytes)} ({report.stored_bytes:,} B)"),
    ]
    if report.lora_fa:
        rows.insert(1, ("Trained with LoRA-FA's optimizer (freezes A)", units.count(report.lora_fa)))
    if report.head:
        rows.append(("Task head, trained and stored beside it", units.count(report.head)))
    figures.table(("", "Counted"), rows, numeric=(1,))


def _other_models(choice: Choice) -> None:
    spec = choice.spec
    own = spec.defaults(choice.shape)
    rows = []
    for entry in catalogue().values():
        # Names differ between architectures: keep the learner's numbers, take each model's own default targets.
        defaults = spec.defaults(entry.shape)
        values = {
            name: defaults[name]
            if spec.knob(name).kind == "modules" and entry.shape.model_type != choice.shape.model_type
            else value
            for name, value in choice.values.items()
        }
        try:
            formula = spec.formula(entry.shape, spec.require(entry.shape, values))
        except BadInput as error:
            rows.append((entry.title, units.count(entry.parameters), "–", "–", str(error)))
            continue
        total = entry.parameters + formula.added
        targets = ", ".join(values["target_modules"]) if "target_modules" in own else ""
        rows.append(
            (
                entry.title,
                units.count(entry.parameters),
                units.count(formula.trainable),
                units.percent(100 * formula.trainable / total),
                targets,
            )
        )
    last = "Targets" if "target_modules" in own else "Remark" if any(row[4] for row in rows) else ""
    width = 5 if last else 4
    header = ("Model", "Parameters", "Trained", "Share", last)[:width]
    figures.table(header, [row[:width] for row in rows], numeric=(1, 2, 3), fold=True)
