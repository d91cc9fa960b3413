"""A mock interview as a person takes it, by the keyboard alone, and a prediction on a phone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from peft_lab.interview.bank import get_question
from peft_lab.interview.mock import SIZE, make_plan
from tests.browser.driver import press, reach, settled, visit

SEED = 7


@pytest.mark.slow
def test_a_mock_interview_by_keyboard(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/practice?tab=interview&seed={SEED}&write=false")
    press(page, "Start")
    for number, name in enumerate(make_plan(SEED).questions, start=1):
        question = get_question(name)
        expect(page.get_by_text(f"{number} of {SIZE}", exact=True)).to_be_visible()
        settled(page, hold=0.1)
        if question.kind == "numeric":
            reach(page, "Your answer")
            page.keyboard.type("42")
            page.keyboard.press("Enter")
        else:
            press(page, "Pass")
    expect(page.get_by_role("heading", name="Your result")).to_be_visible()
    expect(page.get_by_role("heading", name="Read next")).to_be_visible()
    settled(page)
    press(page, "Open LoRA")
    expect(page.locator("h1")).to_have_text("LoRA")


def test_a_day_that_is_typed_counts_when_the_field_is_left(page: Page, app_url: str) -> None:
    """Streamlit hands a typed date on when the focus leaves the whole field, its calendar's button included."""
    visit(page, f"{app_url}/practice")
    page.get_by_text("Plan for my interview").click()
    settled(page)
    expect(page.get_by_text("click elsewhere to apply it")).to_be_visible()
    page.get_by_role("spinbutton", name="year, My interview is on").click()
    page.keyboard.type(f"{datetime.now(UTC) + timedelta(days=6):%Y%m%d}", delay=100)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_text("In 6 days")).to_be_visible()
