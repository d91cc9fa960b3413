"""The navigation's six doors fold and open by keyboard too; Back leaves a page at once, however much was set on it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from peft_lab.ui import pages
from tests.browser.driver import choose_page, in_address, reach, settled, visit


def open_doors(page: Page) -> list[str]:
    headings = page.get_by_test_id("stSidebarNav").get_by_role("button", expanded=True)
    groups = headings.locator("xpath=..")
    return [str(group.get_attribute("aria-label")) for group in groups.all()]


def test_the_doors_follow_the_page(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/compare")
    assert page.get_by_test_id("stNavSectionHeader").count() == len(pages.doors()) == 6
    assert open_doors(page) == [pages.door_of("compare")]
    other = page.get_by_test_id("stSidebarNav").get_by_role("button", name="Interview", exact=True)
    other.focus()
    page.keyboard.press("Enter")
    expect(other).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{app_url}/practice")
    expect(page.locator("h1")).to_have_text(pages.titles()["practice"])
    settled(page)
    assert open_doors(page) == [pages.door_of("practice")]
    page.go_back()
    expect(page).to_have_url(f"{app_url}/compare")
    settled(page)
    assert open_doors(page) == [pages.door_of("compare")]


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
