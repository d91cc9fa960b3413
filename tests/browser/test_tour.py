"""The whole tour as a newcomer walks it, by the keyboard alone; a lesson that a teacher has sent."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from peft_lab.interview import tour
from peft_lab.interview.tour import Stop, Tour
from tests.browser.driver import settled, visit

LESSON = Tour(
    "Monday",
    (
        Stop(
            page="lora",
            title="Nothing moves",
            settings={"model": "gpt2", "r": "16", "tab": "inside", "part": "parameters"},
            read="The formula.",
            fixed=("model", "r"),
        ),
    ),
)


@pytest.mark.slow
def test_a_lesson_that_was_sent(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/tour?path={tour.pack_path(LESSON)}")
    page.get_by_role("button", name="Follow this path").click()
    expect(page.get_by_role("heading", name="Monday")).to_be_visible()
    settled(page)
    page.get_by_test_id("stMain").get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_text("Set by the teacher: Model, Rank r.")).to_be_visible()
    settled(page)
    assert (
        page.get_by_role("slider", name="Rank r").first.get_attribute("aria-disabled") == "true"
        or not page.get_by_role("slider", name="Rank r").first.is_enabled()
    )
    assert page.get_by_role("slider", name="Scaling α").is_enabled()
    # the lesson's own address opens it again
    address = page.url
    visit(page, address)
    expect(page.get_by_text("Stop 1 of 1")).to_be_visible()
    page.get_by_role("button", name="Unlock these settings").click()
    expect(page.get_by_text("Set by the teacher")).to_have_count(0)


def test_projector_mode_hides_all_but_the_page(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/myths?projector=on")
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    size = "parseFloat(getComputedStyle(document.querySelector('[data-testid=stMain] p')).fontSize)"
    large = page.evaluate(size)
    expect(page.get_by_role("button", name="Leave projector view")).to_be_in_viewport(ratio=1)
    page.get_by_role("button", name="Leave projector view").click()
    expect(page.get_by_test_id("stSidebar")).to_be_visible()
    settled(page)
    assert large > 1.2 * page.evaluate(size)


@pytest.mark.further
def test_in_projector_mode_keys_turn_stops_and_pages(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/lora?stop=newcomer.2&projector=on")
    page.keyboard.press("PageDown")
    expect(page).to_have_url(re.compile("stop=newcomer.3"))
    settled(page)
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile("stop=newcomer.2"))
    settled(page)
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")  # a slider's own
    expect(page).to_have_url(re.compile("r=16.*stop=newcomer.2"))
    visit(page, f"{app_url}/sweeps?projector=on")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("/playground"))
    settled(page)
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("stSidebar")).to_be_visible()
