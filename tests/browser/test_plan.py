"""Plan on a phone: plans come, the drawing of the ranks stands still for who wants no motion, nothing is cut off."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import visit

PHONE = {"viewport": {"width": 390, "height": 844}}
SECONDS = 240_000
ADDRESS = "plan?model=smollm2-135m&gpu=rtx-4090&rows=500&row_tokens=100&seq=128&price=0.5"


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_a_plan_on_a_phone_without_motion(page: Page, app_url: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    visit(page, f"{app_url}/{ADDRESS}")
    expect(page.get_by_role("heading", name="Files that carry it out")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_role("heading", name="Backward")).to_be_visible(timeout=SECONDS)
    names = page.evaluate(
        """() => {
          const found = [];
          const walk = (root) => root.querySelectorAll("*").forEach((one) => {
            if (one.shadowRoot) walk(one.shadowRoot);
            if (one.classList?.contains("phase")) found.push(getComputedStyle(one).animationName);
          });
          walk(document);
          return found;
        }"""
    )
    assert names and set(names) == {"none"}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_card_is_typed_and_one_that_is_none_is_mended_with_a_click(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/{ADDRESS}")
    field = page.get_by_role("combobox", name="GPU")
    for typed in ("24GB", "rtx-3090"):
        field.click()
        field.fill(typed)
        field.press("Enter")
        if typed == "24GB":
            expect(page).to_have_url(re.compile("gpu=24GB"), timeout=SECONDS)
    expect(page.get_by_text("There is no device called 'rtx-3090'")).to_be_visible(timeout=SECONDS)
    page.get_by_role("button", name="Plan with GeForce RTX 3060").click()
    expect(page).to_have_url(re.compile("gpu=rtx-3060"), timeout=SECONDS)
    expect(page.get_by_text("There is no device called")).to_have_count(0)
