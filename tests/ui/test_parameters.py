"""The Parameters tab: formula beside count, and what is said where they differ."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

TOLD = "The formula gives 60, the count 100: PEFT trains 40 in mlp.experts that the formula does not know."


def _page(difference: str | None, lora_fa: int | None) -> None:
    from peft_lab.methods.base import Formula, Term
    from peft_lab.methods.counting.count import CountReport
    from peft_lab.ui.method import parts

    formula = Formula("r", (Term("q_proj", "60", 60, 1),), 60, 60)
    report = CountReport(
        "x", "lora", 100, 1000, 10.0, 400, 100, 60 if difference else 100, 0, (), difference, lora_fa
    )
    parts._equality(report, formula)
    parts._totals(report, formula)


@pytest.mark.parametrize(("difference", "lora_fa"), [(TOLD, 70), (None, None)])
def test_a_difference_is_told_with_its_reason(difference: str | None, lora_fa: int | None) -> None:
    app = AppTest.from_function(_page, kwargs={"difference": difference, "lora_fa": lora_fa}).run()
    assert not app.exception
    shown = " ".join(element.value for element in app.markdown)
    assert [TOLD in warning.value for warning in app.warning] == ([True] if difference else [])
    assert ("both give" in shown) == (difference is None)
    told = shown + " ".join(element.proto.body for element in app.get("html"))
    assert ("LoRA-FA" in told) == (lora_fa is not None)
