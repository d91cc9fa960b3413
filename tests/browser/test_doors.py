"""The navigation's six doors: the current page's is open, the others are folded, and the keyboard opens them too."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from peft_lab.ui import pages
from tests.browser.driver import settled, visit


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
