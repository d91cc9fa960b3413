"""Every number on every page can be typed, and the page that is drawn with it can be drawn again."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import NumberInput

from peft_lab.ui.pages import titles
from tests.waits import SECONDS

ROOT = Path(__file__).parents[2]


def another(field: NumberInput) -> float:
    """A value that the field takes and does not have."""
    step = field.step or 1
    if field.value is None:
        return (field.min or 0) + step
    above = field.value + step
    return above if field.max is None or above <= field.max else field.value - step


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("page", "tab"),
    [(page, "") for page in sorted(titles())]
    + [("lora", "train"), ("lora", "memory"), ("prefix", "train"), ("prefix", "memory")],
)
def test_every_number_is_typed_and_the_page_stands(page: str, tab: str) -> None:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    if tab:
        app.query_params["tab"] = tab
    if page != "home":
        app.switch_page(f"pages/{page}.py")
    app.run()
    assert not app.exception
    for index in range(len(app.number_input)):
        if index >= len(app.number_input):  # a number that was set may close a part of the page
            break
        field = app.number_input[index]
        if field.disabled:
            continue
        wanted, label = another(field), field.label
        field.set_value(wanted)
        for _ in range(2):
            app.run()
            assert not app.exception, f"{page}: {label} set to {wanted}: {app.exception[0].value}"
