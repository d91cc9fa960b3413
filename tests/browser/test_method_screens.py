"""What is seen of a method's page: whole tables, an answer beside the part that was chosen, one truth about a run."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.driver import settled, unfold, visit

pytestmark = pytest.mark.weights
WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}}
SIZES = pytest.mark.parametrize("page", [WIDE, PHONE], indirect=True, ids=["1280", "390"])

# Every table's last cells, with how far they stand out of what contains them, in pixels.
_CUT = """() => {
  const places = [...document.querySelectorAll('.figures-scroll')];
  for (const part of document.querySelectorAll('[data-testid="stBidiComponentRegular"], [data-testid^="stBidi"]'))
    for (const root of [part, ...part.querySelectorAll('*')])
      places.push(...(root.shadowRoot ?? root).querySelectorAll('.host'));
  const told = [];
  for (const place of new Set(places)) {
    const box = place.getBoundingClientRect();
    for (const row of place.querySelectorAll('tbody tr')) {
      const last = row.lastElementChild.getBoundingClientRect();
      const out = Math.max(last.right - box.right, box.left - last.left);
      if (last.width) told.push([row.innerText.replace(/\\s+/g, ' '), out]);
    }
  }
  return told;
}"""


def cut(page: Page) -> list[str]:
    """Rows whose last cell is not wholly inside its table's frame."""
    rows = page.evaluate(_CUT)
    assert len(rows) > 5, "no tables were found"
    return [text for text, out in rows if out > 1]


# Names of the figures that end in dots, and choices whose words stand on two lines.
_BROKEN = """() => {
  const told = [];
  for (const label of document.querySelectorAll('[data-testid="stMetricLabel"], [data-testid="stMetricLabel"] *'))
    if (label.scrollWidth > label.clientWidth + 1 && getComputedStyle(label).textOverflow === 'ellipsis')
      told.push(label.innerText);
  for (const group of document.querySelectorAll('[role="radiogroup"]')) {
    const words = [...group.querySelectorAll('[data-variant="segmented_control"]')];
    if (new Set(words.map((word) => Math.round(word.getBoundingClientRect().top))).size > 1)
      told.push(group.innerText);
  }
  return told;
}"""


@pytest.mark.slow
@SIZES
@pytest.mark.parametrize("method", ["lora", "adapters", pytest.param("ptuning", marks=pytest.mark.slow)])
def test_nothing_is_cut_or_has_to_be_scrolled(page: Page, app_url: str, method: str) -> None:
    visit(page, f"{app_url}/{method}?tab=inside&part=modules&model=minilm-l6")
    assert page.get_by_test_id("stMetricLabel").count() == 4
    assert page.evaluate(_BROKEN) == []
    row = page.get_by_role("button", name=re.compile(r"output\.dense$")).first
    row.click()
    settled(page)
    expect(page.get_by_role("heading", name="One module")).to_be_visible()
    assert cut(page) == []
    page.get_by_role("radio", name="Parameters").click()
    settled(page)
    assert cut(page) == []


def box(place: Locator) -> dict[str, float]:
    found = place.bounding_box()
    assert found is not None
    return {"x": found["x"], "y": found["y"], "width": found["width"], "height": found["height"]}


def drawn(page: Page) -> Locator:
    """The drawing in the layout that is seen: which one goes by the width of its column."""
    return page.locator(".wide svg, .narrow svg").locator("visible=true").first


def assert_in_view(page: Page, place: Locator) -> None:
    expect(place).to_be_visible()
    found, size = box(place), page.viewport_size
    assert size is not None
    assert found["x"] >= 0 and found["x"] + found["width"] <= size["width"]
    assert found["y"] >= 0 and found["y"] + found["height"] <= size["height"]


@pytest.mark.sampled(2)
@SIZES
def test_a_chosen_part_is_answered_beside_it_in_view(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/lora?tab=idea")
    drawing = page.locator(".wide svg, .narrow svg").locator("visible=true")
    for at in ("q_proj", "lm_head"):
        part = drawing.locator(f'[data-path$="{at}"]').first
        part.click()
        panel = page.locator(".panel")
        assert_in_view(page, panel)
        expect(panel).to_contain_text(at)
        page.keyboard.press("Escape")
        expect(panel).to_be_hidden()
    part = drawing.locator('[data-path$="v_proj"]').first
    part.click()
    for words in ("lora_A.weight", "8 × 576, float32, trainable", "138,240", "192 × 576", "3,317,760"):
        expect(page.locator(".panel")).to_contain_text(words)
    settled(page)
    assert_in_view(page, page.locator(".panel"))  # it stays when the page has been drawn again


def test_the_drawing_and_the_tree_choose_the_same_part(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/lora?tab=inside&part=modules")
    expect(drawn(page)).to_be_hidden()
    unfold(page)
    drawn(page).locator('[data-path$="v_proj"]').first.click()
    settled(page)
    detail = page.locator("table.figures")
    expect(detail.get_by_text("lora_B.weight")).to_be_visible()
    expect(detail.get_by_text("192 × 8")).to_be_visible()
    page.keyboard.press("Escape")
    row = page.get_by_role("button", name="model.layers.∗.self_attn.q_proj.lora_A")
    row.focus()
    page.keyboard.press("Enter")
    settled(page)
    expect(drawn(page).locator('[data-path$="q_proj"]').first).to_have_attribute("aria-pressed", "true")
    expect(row).to_have_attribute("aria-pressed", "true")
    expect(row).to_be_focused()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("page", [WIDE, PHONE], indirect=True, ids=["1280", "390"])
def test_by_tab_one_comes_to_the_tabs_before_what_stands_below_them(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/lora")
    order = page.evaluate(
        """() => {
          const at = (it) => [...document.querySelectorAll('*')].indexOf(it);
          const main = document.querySelector('[data-testid="stMain"]');
          const first = (css) => at(main.querySelector(css));
          return [first('[role="tab"]'), first('[role="tabpanel"]'), first('.st-key-knobs button, .st-key-knobs input'),
            first('.st-key-bench-block')];
        }"""
    )
    assert order == sorted(order) and order[0] >= 0
    page.locator("h1").click()
    tab = page.get_by_role("tab", name="Idea")
    for _ in range(40):
        page.keyboard.press("Tab")
        if tab.evaluate("it => it === document.activeElement"):
            break
        assert not page.evaluate(
            "document.activeElement.closest('.st-key-bench-left, .st-key-bench-block') !== null"
        ), "no knob and no part of the drawing before the tabs"
    expect(tab).to_be_focused()
    # the way into what the open tab shows, and from there to the knobs
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    settled(page)
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
