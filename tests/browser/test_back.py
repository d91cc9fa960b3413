"""The browser's Back leaves a page at once, however much was set on it, and goes from stop to stop of a path."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import choose_page, in_address, reach, settled, visit


@pytest.mark.further
def test_back_leaves_a_page_on_which_knobs_were_moved(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/sweeps")
    choose_page(page, "lora")
    expect(page.get_by_role("heading", name="LoRA", exact=True)).to_be_visible()
    settled(page)
    reach(page, "Rank r")
    for rank in (16, 32):
        page.keyboard.press("ArrowRight")
        in_address(page, f"r={rank}")
    page.go_back()
    expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
    page.go_forward()
    expect(page).to_have_url(re.compile(r"/lora\?r=32"))
    expect(page.get_by_role("heading", name="LoRA", exact=True)).to_be_visible()
    settled(page)
    steps = page.evaluate("history.length")
    page.evaluate("history.pushState({}, '', '?stop=newcomer.2')")
    assert page.evaluate("history.length") == steps + 1, "stops of a path are gone back to one by one"
