"""No serious accessibility violation, by axe-core, on any page, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from peft_lab.ui.pages import titles
from tests.browser.driver import settled, sticks_out, visit

PAGES = tuple(titles())
# What is quick to draw, where the page's defaults are not.
QUERY = {"memory": "?model=minilm-l6&device=this-machine&batch=2&seq=16"}
STATES = [
    *(f"lora?tab=inside&part={part}" for part in ("modules", "parameters", "picture")),
    *(f"lora?tab={tab}" for tab in ("train", "export")),
    "practice?tab=interview",
    # a stop of the tour, a lesson with everything locked, a room
    "lora?stop=newcomer.2&model=smollm2-135m",
    "memory?model=minilm-l6&device=this-machine&batch=2&seq=16&tab=curves",
    "ia3?stop=newcomer.2",
    "lora?model=gpt2&r=16&lora_alpha=16&use_dora=true&target_modules=c_attn&fixed=model,r,lora_alpha,use_dora,target_modules",
    "home?projector=on",
]
SEVERE = ("serious", "critical")
# The rules of axe that depend on colours, and so on the scheme.
OF_COLOURS = ["color-contrast", "link-in-text-block"]
# Rules that only Streamlit could keep, each with the reason why it cannot be mended from outside. There is none.
EXCUSED: dict[str, str] = {}
# Streamlit follows the browser's colour scheme: a page that is still light would be checked twice.
_IS_SHOWN = """(scheme) => {
  const [red] = getComputedStyle(document.querySelector('[data-testid="stApp"]')).backgroundColor.match(/\\d+/g);
  return (scheme === 'light') === (Number(red) > 127);
}"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reader(chromium: Browser) -> Iterator[Page]:
    """One page for all: each test opens another address in it."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    yield context.new_page()
    context.close()


def severe(page: Page, scheme: str = "") -> list[str]:
    """Each violation as a line: rule, element, what is wrong. In the dark of colours alone.

    What was faded while an answer came is none: what is wrong stays so, also when looked at three times.
    """
    for _ in range(2):
        if not _violations(page, scheme):
            return []
        settled(page)
    return _violations(page, scheme)


def _violations(page: Page, scheme: str) -> list[str]:
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if scheme == "dark":
        options["runOnly"] = OF_COLOURS
    found: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:160]}: {node['failureSummary'][:300]}"
        for violation in found
        if violation["impact"] in SEVERE and violation["id"] not in EXCUSED
        for node in violation["nodes"]
    ]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "address", [f"{'' if name == 'home' else name}{QUERY.get(name, '')}" for name in PAGES] + STATES
)
def test_a_page_has_no_serious_violation(address: str, reader: Page, app_url: str) -> None:
    for scheme in ("light", "dark"):
        reader.emulate_media(color_scheme=scheme)
        if scheme == "light":
            visit(reader, f"{app_url}/{address}")
        reader.wait_for_function(_IS_SHOWN, arg=scheme, timeout=10_000)
        settled(reader)
        assert severe(reader, scheme) == [], scheme


STOP = "lora?stop=newcomer.2&model=smollm2-135m"  # its bar has icons alone on a phone


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", [*titles(), STOP])
def test_a_page_on_a_phone_has_no_serious_violation(name: str, reader: Page, app_url: str) -> None:
    """Every page of the registry, in both themes, as wide as a phone."""
    wide = reader.viewport_size
    assert wide is not None
    reader.set_viewport_size({"width": 390, "height": 844})
    try:
        for scheme in ("light", "dark"):
            reader.emulate_media(color_scheme=scheme)
            if scheme == "light":
                visit(reader, f"{app_url}/{'' if name == 'home' else name}{QUERY.get(name, '')}")
            reader.wait_for_function(_IS_SHOWN, arg=scheme, timeout=10_000)
            settled(reader)
            assert severe(reader, scheme) == [], scheme
        assert sticks_out(reader) == 0
    finally:
        reader.set_viewport_size(wide)


def test_what_opens_over_a_page_has_the_ink_of_its_theme(reader: Page, app_url: str) -> None:
    """It stands beside the app in the document: in the dark theme its labels were near black on near black."""
    for scheme in ("light", "dark"):
        reader.emulate_media(color_scheme=scheme)
        visit(reader, f"{app_url}/practice")
        reader.evaluate(_UNFOLD)
        settled(reader)
        opener = reader.locator('[data-testid="stMain"] [data-testid="stPopover"] button:visible').first
        opener.click()
        reader.locator('[data-testid="stPopoverBody"] label').first.wait_for()
        settled(reader)
        assert severe(reader, scheme) == [], scheme
        reader.keyboard.press("Escape")


_UNFOLD = """() => document.querySelectorAll('[data-testid="stMain"] details:not([open]) > summary')
  .forEach(summary => summary.click())"""


@pytest.mark.parametrize(("scheme", "ink"), [("light", "#eee"), ("dark", "#222")])
def test_the_check_finds_what_is_wrong(scheme: Any, ink: str, reader: Page, app_url: str) -> None:
    reader.emulate_media(color_scheme=scheme)
    visit(reader, f"{app_url}/tour")
    reader.wait_for_function(_IS_SHOWN, arg=scheme, timeout=10_000)
    reader.evaluate("ink => document.querySelector('[data-testid=stMain] h1').style.color = ink", ink)
    assert any(line.startswith("color-contrast") for line in severe(reader, scheme))
