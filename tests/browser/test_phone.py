"""What a thumb does: the menu gives way to the page chosen in it, and a stop says what to do above its control."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import settled, visit

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_the_menu_closes_when_a_page_is_chosen(page: Page, app_url: str) -> None:
    visit(page, app_url)
    page.get_by_test_id("stExpandSidebarButton").click()
    menu = page.get_by_test_id("stSidebar")
    expect(menu).to_be_in_viewport()
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Runs").click()
    expect(menu).not_to_be_in_viewport(timeout=2_000)
    expect(page.locator("h1")).to_have_text("Runs")


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_a_stop_says_what_to_do_above_its_control(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/memory?stop=newcomer.6")
    bar = page.locator(".st-key-tour-bar")
    task = page.locator(".st-key-tour-now")
    expect(task).to_contain_text("Then twice the Tokens per row.")
    control = page.locator(".tour-points-here")
    expect(control).to_be_in_viewport()
    settled(page)
    over, it = bar.bounding_box(), control.bounding_box()
    assert over is not None and it is not None
    assert over["y"] >= 0 and over["y"] + over["height"] <= it["y"]  # in view, and not over what it speaks of
    words = task.locator("p").evaluate("it => [it.scrollHeight, it.clientHeight]")
    assert words[0] <= words[1]  # nothing cut
