"""What a person does on Home: drags the rank on its strip, then trains with it by one click."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import in_address, pulled, settled, stop_button, visit

LAYERS, WIDE, VALUES = 30, 576, 192  # of SmolLM2-135M: q_proj maps 576 to 576, v_proj 576 to 192


def trained(rank: int) -> str:
    return f"{LAYERS * rank * (2 * WIDE + WIDE + VALUES):,} trained"


@pytest.mark.weights
def test_the_rank_is_dragged_on_the_strip_and_the_run_has_it(page: Page, app_url: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    visit(page, app_url)
    title = page.locator("h1").inner_text()
    expect(page.locator(".count")).to_have_text(trained(8))
    pulled(page, page.locator('.wide [data-mark="A"]').first, 17)
    expect(page.locator(".count")).to_have_text(trained(16))  # before it is let go
    page.mouse.up()
    button = page.get_by_role("button", name="Train a LoRA of rank 16 now")
    expect(button).to_be_visible()
    settled(page)
    assert page.locator("h1").inner_text() != title  # the share in the title is of that rank
    button.click()
    expect(page.locator("h1")).to_have_text("LoRA", timeout=60_000)
    expect(page.get_by_text(re.compile("Starting|Training|Queued")).first).to_be_visible(timeout=60_000)
    in_address(page, "r=16")
    stop_button(page).click()
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_enabled(timeout=240_000)
