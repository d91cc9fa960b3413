"""Plan on a phone: plans come, the drawing of the ranks stands still for who wants no motion, nothing is cut off."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.driver import visit

PHONE = {"viewport": {"width": 390, "height": 844}}
WIDE = {"viewport": {"width": 1280, "height": 800}}
NEAR = 40  # pixels between a control and what is said of it
ADDRESS = "plan?model=smollm2-135m&gpu=rtx-4090&rows=500&row_tokens=100&seq=128&price=0.5"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("page", [PHONE, WIDE], indirect=True)
def test_what_is_wrong_stands_at_its_control_with_what_mends_it(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/{ADDRESS}")
    rows = page.get_by_role("spinbutton", name="Training rows")
    beside = page.get_by_role("spinbutton", name="Average length")
    apart = _top(beside) - _top(rows)
    rows.fill("0")
    rows.press("Enter")
    deadline = page.get_by_role("textbox", name="Must be done in")
    deadline.fill("2020-01-01")
    deadline.press("Enter")
    for control, sentence, mends in (
        (rows, "Training rows must be", "Use 1,000 rows"),
        (deadline, "The deadline has passed", "Use no deadline"),
    ):
        said, button = page.get_by_text(sentence), page.get_by_role("button", name=mends)
        expect(said).to_be_visible()
        expect(button).to_be_visible()
        box, text, press = control.bounding_box(), said.bounding_box(), button.bounding_box()
        assert box is not None and text is not None and press is not None
        assert 0 < text["y"] - (box["y"] + box["height"]) < NEAR, sentence
        assert 0 < press["y"] - (text["y"] + text["height"]) < NEAR, mends
        assert abs(text["x"] - box["x"]) < NEAR, "in the column of its control"
        cut = "it => [it, ...it.querySelectorAll('*')].some((one) => one.scrollWidth > one.clientWidth + 1)"
        assert not button.locator("xpath=.//p/..").evaluate(cut), "its words are whole"
    if page.viewport_size == WIDE["viewport"]:
        assert _top(beside) - _top(rows) == apart, "what is beside it stays where it is"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _top(control: Locator) -> float:
    box = control.bounding_box()
    assert box is not None
    return box["y"]


def test_a_card_is_typed_and_one_that_is_none_is_mended_with_a_click(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/{ADDRESS}")
    field = page.get_by_role("combobox", name="Graphics card")
    for typed in ("24GB", "rtx-2060"):
        field.click()
        field.fill(typed)
        field.press("Enter")
        if typed == "24GB":
            expect(page).to_have_url(re.compile("gpu=24GB"))
    expect(page.get_by_text("There is no device called 'rtx-2060'")).to_be_visible()
    page.get_by_role("button", name="Use GeForce RTX 3060").click()
    expect(page).to_have_url(re.compile("gpu=rtx-3060"))
    expect(page.get_by_text("There is no device called")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize(("page", "columns"), [(PHONE, 3), (WIDE, 6)], indirect=["page"])
def test_the_verdict_stands_first_and_the_table_stays_a_table(page: Page, app_url: str, columns: int) -> None:
    visit(page, f"{app_url}/{ADDRESS}")
    files = page.get_by_role("button", name="Get the files")
    expect(files).to_be_enabled()
    size, box = page.viewport_size, files.bounding_box()
    assert size is not None and box is not None and box["y"] + box["height"] <= size["height"]
    heading = page.get_by_role("heading", level=2)
    expect(heading).to_contain_text("LoRA on one RTX 4090")
    table = page.get_by_role("table", name="Plans that fit")
    assert sum(cell.is_visible() for cell in table.locator("thead th").all()) == columns
    chosen = table.get_by_role("radio", checked=True)
    expect(chosen).to_have_text("LoRA")
    table.get_by_role("radio", name="QLoRA").first.click()
    expect(heading).to_contain_text("QLoRA on one RTX 4090")
    expect(table.get_by_role("radio", name="QLoRA").first).to_be_checked()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
