"""Addresses, paths and learners that try to put pictures and links into the app: none appears, nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Browser, Page, expect

from peft_lab.interview import tour
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.tour import Stop, Tour
from peft_lab.ui.pages import titles
from tests.browser.conftest import served
from tests.browser.driver import settled, visit
from tests.conftest import link

PICTURE = "![x](http://evil.example/a.png)"
LINKS = "[x](http://evil.example) http://evil.example www.evil.example"
MARKUP = "<img src=http://evil.example/a.png> $x$ :material/home: **b**"
NAME = "[x](http://evil.example)"
# What the pages read from their addresses; a page passes over the names that it does not know.
_PARAMETERS = """
  model tab topic device profile claim task method methods belief level path stop case fixed run comparison x y r lr
  steps batch seq seed rows rank optimizer dtype lora_alpha target_modules num_virtual_tokens num_layers memory latency
  sweep lines held id
"""
# Where the address says nothing, or nothing that is shown.
SILENT = ("home", "playground", "runs", "teach", "words")
# An address that begins with # is a place on the same page: Streamlit makes one from a heading's letters.
_FOREIGN = """() => [...document.querySelectorAll('*')].filter(each =>
  [...each.attributes].some(attribute => ['href', 'src', 'srcset', 'xlink:href', 'action', 'style', 'data']
    .includes(attribute.name) && attribute.value.includes('evil')
      && !attribute.value.startsWith('#'))).map(each => each.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def hostile_url(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app that has been used before, with a learner whose name is a link."""
    home = tmp_path_factory.mktemp("home")
    link(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_LAB_HOME", str(home))
        Learners(clock=schedule.utc_now).create(NAME)
    with served(home, home / "server.log") as url:
        with chromium.new_context() as context:
            visit(context.new_page(), f"{url}/lora")
        yield url


def check(page: Page, asked: list[str]) -> str:
    """That nothing foreign is on the page or was asked for. Returns what can be read on it."""
    assert page.evaluate(_FOREIGN) == []
    assert [url for url in asked if "evil" in url.partition("?")[0]] == []
    assert page.locator('[data-testid="stMain"] img[alt="x"]').count() == 0
    return page.get_by_test_id("stApp").inner_text()


@pytest.mark.further
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.rest if at % 4 else ()) for at, name in enumerate(titles())]
)
def test_a_hostile_address_shows_its_letters_and_no_more(name: str, page: Page, hostile_url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    parameters, texts = _PARAMETERS.split(), (PICTURE, LINKS, MARKUP)
    first = list(titles()).index(name)  # over all pages every parameter has every text
    query = {one: texts[(first + at) % 3] for at, one in enumerate(parameters)} | {"profile": NAME}
    visit(page, f"{hostile_url}/{'' if name == 'home' else name}?{urlencode(query, quote_via=quote)}")
    shown = check(page, asked)
    if name not in SILENT:
        assert "evil" in shown, "what could not be read is told"


@pytest.mark.slow
def test_a_hostile_path_shows_its_letters_and_no_more(page: Page, hostile_url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    stops = tuple(
        Stop(page=name, title=f"{PICTURE} {LINKS}"[:80], read=f"{PICTURE}\n\n{LINKS}", move=MARKUP, see=LINKS)
        for name in ("home", "myths")
    )
    visit(page, f"{hostile_url}/tour?path={tour.pack_path(Tour(PICTURE, stops))}")
    assert "evil" in check(page, asked)
    page.get_by_role("button", name="Follow this path").click()
    expect(page.get_by_text("2 stops visited")).to_be_visible()
    settled(page)
    check(page, asked)
    page.get_by_test_id("stMain").get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_text("Stop 1 of 2")).to_be_visible()
    settled(page)
    assert "www" in check(page, asked)
