"""How pages stand at other widths than a laptop's, and that nothing moves that was left where it was."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from bench.first_screen import WATCH, cumulative
from tests.browser.driver import settled, visit

TABLET = {"viewport": {"width": 768, "height": 1024}}
MOST_SHIFT = 0.05
# words that do not fit: of what is chosen, and whatever ends in dots
_CUT = """() => [...document.querySelectorAll('[data-testid="stMain"] *')].filter((it) => it.offsetParent
  && it.scrollWidth > it.clientWidth + 1 && !it.closest('[data-testid="stFileUploader"]')
  && (it.matches('[data-testid="stSelectbox"] input') || getComputedStyle(it).textOverflow === 'ellipsis')
).map((it) => it.value ?? it.innerText)"""
_FORMULAS_CUT = """() => [...document.querySelectorAll('.katex-display')].filter((it) => it.offsetParent
  && it.scrollWidth > it.clientWidth + 1).map((it) => it.innerText)"""
# Streamlit's sign that a page is being drawn, with the button that stops that
_DRAWING = """() => {
  const sign = document.createElement('div');
  sign.dataset.testid = 'stStatusWidget';
  sign.innerHTML = '<span data-testid="stStatusWidgetRunningIcon">drawn</span><button id="drawing">Stop</button>';
  document.querySelector('[data-testid="stApp"]').append(sign);
}"""


@pytest.mark.slow
@pytest.mark.parametrize("page", [TABLET], indirect=True)
@pytest.mark.parametrize("name", ["memory", "myths", "plan"])
def test_on_a_tablet_no_word_is_cut(name: str, page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/{name}")
    assert page.evaluate(_CUT) == []


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wide"),
    [("", 1280), ("practice", 1280), ("write", 1280), ("write?all=yes", 1280), ("compare", 1920)],
)
def test_what_is_drawn_stays_where_it_is(name: str, wide: int, chromium: Browser, app_url: str) -> None:
    """Titles and forms moved by 40 to 240 pixels: paddings, a bar of steps and chips came after them."""
    context = chromium.new_context(viewport={"width": wide, "height": 800 if wide < 1900 else 1080})
    page = context.new_page()
    page.add_init_script(WATCH)
    visit(page, f"{app_url}/{name}")
    shift = cumulative(page.evaluate("window.shifts"))
    left = {page.locator("h1").first.bounding_box()["x"]}  # type: ignore[index]
    context.close()
    assert shift <= MOST_SHIFT
    assert left == {228 if wide < 1900 else 336}, "one frame for every page"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "ptuning"])
def test_no_formula_is_cut(name: str, page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/{name}")
    expect(page.locator(".katex-display").first).to_be_visible()
    for width in (390, 768, 1280, 1920, 2560):
        page.set_viewport_size({"width": width, "height": 1000})
        settled(page)
        assert page.evaluate(_FORMULAS_CUT) == [], width


def test_the_only_stop_is_that_of_a_training(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/runs")
    page.evaluate(_DRAWING)
    expect(page.get_by_text("drawn", exact=True)).to_be_visible()
    expect(page.locator("#drawing")).to_be_hidden()
