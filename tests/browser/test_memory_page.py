"""The Memory page comes to rest: what cannot run on a model is said once and not asked for again."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.driver import settled


def test_a_model_that_refuses_a_method_comes_to_rest(page: Page, app_url: str) -> None:
    page.goto(f"{app_url}/memory?model=minilm-l6&device=this-machine&batch=2&seq=16")
    expect(page.get_by_text("What length costs")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("Simulating")).to_have_count(0, timeout=120_000)
    settled(page)
    # A question that is asked again on every draw would keep the script running every quarter of a second.
    app = page.get_by_test_id("stApp")
    for _ in range(20):
        assert app.get_attribute("data-test-script-state") == "notRunning"
        page.wait_for_timeout(100)
    assert page.get_by_text("does not support past key values").count() == 1
