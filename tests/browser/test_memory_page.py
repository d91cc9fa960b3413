"""The Memory page comes to rest: what cannot run on a model is said once and not asked for again."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.driver import settled, visit


def test_a_model_that_refuses_a_method_comes_to_rest(page: Page, app_url: str) -> None:
    page.goto(f"{app_url}/memory?model=minilm-l6&device=this-machine&batch=2&seq=16")
    expect(page.get_by_text("What length costs")).to_be_visible(timeout=120_000)
    settled(page, timeout=120)
    assert page.get_by_role("progressbar").count() == 0
    assert page.get_by_text("does not support past key values").count() == 1
    visit(page, page.url)
