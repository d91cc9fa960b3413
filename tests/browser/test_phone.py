"""What a thumb does: the menu gives way to the page chosen in it, and a stop says what to do above its control."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import choose_page, settled, visit

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_the_menu_closes_when_a_page_is_chosen(page: Page, app_url: str) -> None:
    visit(page, app_url)
    page.get_by_test_id("stExpandSidebarButton").click()
    menu = page.get_by_test_id("stSidebar")
    expect(menu).to_be_in_viewport()
    choose_page(page, "runs")
    expect(menu).not_to_be_in_viewport(timeout=2_000)
    expect(page.locator("h1")).to_have_text("Runs")


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_a_stop_says_what_to_do_above_its_control(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/memory?stop=newcomer.6")
    bar = page.locator(".st-key-tour-bar")
    task = page.locator(".st-key-tour-now")
    expect(task).to_contain_text("Tokens per row")
    control = page.locator(".tour-points-here")
    expect(control).to_be_in_viewport()
    settled(page)
    over, it = bar.bounding_box(), control.bounding_box()
    assert over is not None and it is not None
    assert over["y"] >= 0 and over["y"] + over["height"] <= it["y"]  # in view, and not over what it speaks of
    words = task.locator(".st-key-tour-last p").evaluate("it => [it.scrollHeight, it.clientHeight]")
    assert words[0] <= words[1]  # nothing cut


@pytest.mark.sampled(2)
@pytest.mark.weights
@pytest.mark.parametrize("method", ["lora", "bitfit"])
@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_what_stays_on_top_leaves_three_quarters_and_leads_to_the_knobs(
    page: Page, app_url: str, method: str
) -> None:
    visit(page, f"{app_url}/{method}")
    strip = page.locator(".st-key-bench-strip")
    expect(strip).to_contain_text("counted")
    strip.get_by_role("link", name="Settings").click()
    model = page.get_by_test_id("stSelectbox").filter(has_text="Model").first
    expect(model).to_be_in_viewport(ratio=1)
    page.wait_for_timeout(500)  # it may scroll smoothly
    assert "#" not in page.url, "the address says what is set, and nothing else"
    over, knob = strip.bounding_box(), model.bounding_box()
    foot = page.locator(".st-key-bench-foot").get_by_role("button", name="Train", exact=True).bounding_box()
    assert over is not None and knob is not None and foot is not None
    assert over["y"] >= 0 and over["y"] + over["height"] <= 844 / 4
    assert over["y"] + over["height"] <= knob["y"] < 844 / 2, "the first knob is right under it"
    assert foot["y"] > 844 * 3 / 4 and foot["y"] + foot["height"] <= 844, "Train is at the thumb"
    picture = strip.locator("svg").bounding_box()
    assert picture is not None
    assert picture["height"] > 100 and picture["y"] + picture["height"] <= over["y"] + over["height"], (
        "not cut"
    )
