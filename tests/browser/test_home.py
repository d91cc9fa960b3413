"""What a person does on Home: moves through a recorded run, types an order, and trains with it by one click."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.driver import choose_page, settled, stop_button, visit

STEPS, OPENS_AT = 25, 10
STILL = {"reduced_motion": "reduce"}
# what is drawn right after the slider was moved, in the same task: no frame and no server came between
_MOVED = """(range, step) => {
  range.value = step;
  range.dispatchEvent(new Event('input', { bubbles: true }));
  const host = range.closest('.sentence');
  const text = (name) => host.querySelector(name).textContent;
  return {
    row: text('.row.lit .at b'), rows: host.querySelectorAll('.row.lit').length,
    column: text('thead .lit'), cells: host.querySelectorAll('tbody .lit').length,
    curve: Number(host.querySelector('.moment').getAttribute('x1')), mark: text('.curve .now'), title: text('.at-step'),
    block: host.querySelectorAll('.block i')[1].style.height, shade: host.querySelector('.place').style.cssText,
    writes: text('.writes b'),
  };
}"""
_WATCH = """
  window.steps = [];
  const look = () => {
    for (const one of document.querySelectorAll('[data-testid=stBidiComponentIsolated]')) {
      const step = one.shadowRoot?.querySelector('.sentence')?.dataset.step;
      if (step !== undefined && window.steps.at(-1) !== Number(step)) window.steps.push(Number(step));
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
"""


def slider(page: Page) -> Locator:
    return page.get_by_role("slider", name="Training step")


def view(page: Page) -> Locator:
    return page.locator(".sentence")


@pytest.mark.parametrize("page", [STILL], indirect=True)
def test_one_step_moves_all_that_is_shown_at_once(page: Page, app_url: str) -> None:
    visit(page, app_url)
    expect(slider(page)).to_have_value(str(OPENS_AT))
    expect(view(page)).to_have_attribute("data-playing", "false")  # nothing moves by itself
    seen: list[dict[str, Any]] = [slider(page).evaluate(_MOVED, step) for step in (0, 7, 25)]
    assert [one["row"] for one in seen] == ["Step 0", "Step 5", "Steps 15, 25"]
    assert [one["column"] for one in seen] == ["step 0", "step 5", "step 25"]
    assert {(one["rows"], one["cells"]) for one in seen} == {(1, 4)}
    assert [one["mark"] for one in seen] == ["0", "7", "25"]
    assert [one["title"] for one in seen] == [f"step {step} of {STEPS}" for step in (0, 7, 25)]
    left, middle, right = (one["curve"] for one in seen)
    assert (middle - left) / (right - left) == pytest.approx(7 / STEPS, abs=0.01)
    for what in ("block", "shade", "writes"):
        assert len({one[what] for one in seen}) > 1, what
    assert seen[0]["block"] == "0%" and seen[-1]["writes"] == "item"

    # by keys: the slider one step at a time, the right answer's tokens from one to the next
    slider(page).press("ArrowLeft")
    expect(view(page)).to_have_attribute("data-step", "24")
    place = page.get_by_role("radio", checked=True)
    place.press("End")
    expect(place).to_have_text('"}')
    expect(page.locator("tbody th").first).to_have_text('"}')  # the right token leads the table
    # by hand, on the curve
    box = page.locator("svg.curve").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 60, steps=3)
    page.mouse.up()
    expect(slider(page)).to_have_value(str(STEPS))


def test_it_plays_to_step_10_once_and_later_to_its_end_where_it_rests(page: Page, app_url: str) -> None:
    page.add_init_script(_WATCH)
    visit(page, app_url)
    expect(view(page)).to_have_attribute("data-step", str(OPENS_AT))
    expect(view(page)).to_have_attribute("data-playing", "false")
    assert page.evaluate("window.steps.slice(-11)") == list(range(OPENS_AT + 1))
    slider(page).fill(str(STEPS - 3))
    page.get_by_role("button", name="Play the training").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(view(page)).to_have_attribute("data-playing", "false")
    expect(slider(page)).to_have_value(str(STEPS))
    assert page.evaluate("window.steps.slice(-4)") == list(range(STEPS - 3, STEPS + 1))
    page.reload()
    settled(page)
    expect(slider(page)).to_have_value(str(OPENS_AT))
    expect(view(page)).to_have_attribute("data-playing", "false")  # only at the first load


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("page", [STILL], indirect=True)
def test_an_own_order_is_answered_by_the_base_and_trained_with(
    page: Page, app_url: str, app_home: Path
) -> None:
    visit(page, app_url)
    order = page.get_by_role("textbox", name="Your order")
    order.fill("Three espressos for Ada at 9 am")
    rows = page.locator(".row .text")
    expect(rows.nth(1)).to_have_text("train to see")
    expect(page.locator(".token")).to_have_text(
        ["Three", "·es", "press", "os", "·for", "·Ada", "·at", "·", "9", "·am", "↵", "JSON", ":"]
    )
    expect(page.locator(".count")).to_have_text("13 tokens")
    expect(page.locator(".row .fields").first).to_have_text(re.compile("JSON|named"))
    assert page.locator(".row .text .n").count() == 1  # the base's answer, of which nothing is marked
    page.get_by_role("button", name=re.compile("^Train it on this machine")).click()
    expect(page.locator("h1")).to_have_text("LoRA")
    expect(page.get_by_text(re.compile("Starting|Training|Queued")).first).to_be_visible()
    specs = [json.loads(file.read_text("utf-8")) for file in app_home.glob("runs/*/spec.json")]
    assert (["Three espressos for Ada at 9 am\nJSON:"], STEPS) in [
        (one["probes"], one["steps"]) for one in specs
    ]
    stop_button(page).click()
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_enabled()
    choose_page(page, "home")
    expect(order).to_have_value("Three espressos for Ada at 9 am")
    page.get_by_role("button", name="Back to that order").click()
    expect(page.locator(".row .fields").last).to_have_text("right")
