"""What browser tests do: open a page, wait until it has settled."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect

from peft_lab.ui import pages
from tests.waits import MILLISECONDS

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

# connected, no script running, nothing stale or still a placeholder, and all that for a moment: right after a click
# the page has not yet begun to work
_SETTLED = """(hold) => {
  const app = document.querySelector('[data-testid="stApp"]');
  const still = app !== null
    && app.getAttribute('data-test-connection-state') === 'CONNECTED'
    && app.getAttribute('data-test-script-state') === 'notRunning'
    && document.querySelector('[data-stale="true"]') === null
    && document.querySelector('[data-testid="stSkeleton"], [data-testid="stAppSkeleton"]') === null;
  if (!still) { window.__stillSince = undefined; return false; }
  window.__stillSince ??= performance.now();
  return performance.now() - window.__stillSince >= hold;
}"""

_STATE = """() => {
  const app = document.querySelector('[data-testid="stApp"]');
  return {
    connection: app?.getAttribute('data-test-connection-state'),
    script: app?.getAttribute('data-test-script-state'),
    stale: document.querySelectorAll('[data-stale="true"]').length,
    skeletons: document.querySelectorAll('[data-testid="stSkeleton"], [data-testid="stAppSkeleton"]').length,
    focus: document.activeElement.outerHTML.slice(0, 200),
  };
}"""

# what stands on the right of the window and cannot be reached there: not what scrolls in a box of its own, nor what is
# there for screen readers only
_STICKS_OUT = """() => {
  const boxed = (it) => {
    for (let at = it; at && at.dataset?.testid !== 'stMain'; at = at.parentElement) {
      if (at.classList.contains('katex-mathml')) return true;
      const box = at.getBoundingClientRect();
      if (at !== it && getComputedStyle(at).overflowX !== 'visible' && box.right <= innerWidth + 1) return true;
    }
    return false;
  };
  return [...document.querySelectorAll('[data-testid="stMain"] *')].filter((it) => {
    const box = it.getBoundingClientRect();
    return box.width > 0 && box.right > innerWidth + 1 && !boxed(it);
  }).length;
}"""

MOST_TABS = 120  # more key presses than there are controls on any page
# whether the control that has the focus is called so, up to what follows a dot ("Start · 20 min"), and not merely
# begins so ("Start over"); an icon's name stands in a line of its own
_FOCUSED = """(name) => {
  const it = document.activeElement;
  if (!['A', 'BUTTON', 'INPUT', 'TEXTAREA', 'SUMMARY'].includes(it.tagName)) return false;
  const lines = [it.getAttribute('aria-label') || '', ...it.innerText.split('\\n')];
  return lines.some((line) => line.split('·')[0].trim() === name);
}"""


def reach(page: Page, name: str) -> int:
    """Press Tab until the control of that name has the focus; return how often."""
    for stop in range(1, MOST_TABS + 1):
        page.keyboard.press("Tab")
        if page.evaluate(_FOCUSED, name):
            return stop
    raise AssertionError(f"'{name}' cannot be reached by Tab")


def press(page: Page, name: str) -> None:
    """Reach a control by Tab and press Enter once the focus stays there: a page that is drawn anew may take it."""
    reach(page, name)
    page.wait_for_timeout(100)
    if not page.evaluate(_FOCUSED, name):
        reach(page, name)
    page.keyboard.press("Enter")


def by_doors(names: Iterable[str], further: pytest.MarkDecorator) -> list[Any]:
    """Pages as cases of a test: home where the test belongs, one behind every second door in make further, the others
    in make rest."""
    cases: list[Any] = []
    doors = {pages.door_of("home")}
    for name in names:
        door = pages.door_of(name)
        in_turn = door not in doors and len(doors) % 2 == 1
        marks = () if name == "home" else further if in_turn else (further, pytest.mark.rest)
        doors.add(door)
        cases.append(pytest.param(name, marks=marks))
    return cases


def choose_page(page: Page, name: str) -> None:
    """Choose a page in the navigation by its name in addresses, unfolding its door if it is folded."""
    if name in pages.foot():
        page.get_by_test_id("stSidebarUserContent").get_by_role("link", name=pages.titles()[name]).click()
        return
    door = page.get_by_test_id("stSidebarNav").get_by_role("button", name=pages.door_of(name), exact=True)
    if door.get_attribute("aria-expanded") == "false":
        door.click()
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name=pages.titles()[name], exact=True)
    link.click()


def unfold(page: Page) -> None:
    """Unfold settings and drawing on a method's page, where they are folded to a strip."""
    page.get_by_role("button", name="Settings and drawing").click()
    settled(page)


def sticks_out(page: Page) -> int:
    """How many elements reach past the window on the right."""
    return int(page.evaluate(_STICKS_OUT))


def chromium_path() -> str | None:
    """The Chromium of this machine, or None."""
    if Path("/usr/bin/chromium").exists():
        return "/usr/bin/chromium"
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def settled(page: Page, hold: float = 0.3) -> Page:
    """Wait until the page has been at rest for ``hold`` seconds; return it."""
    page.evaluate("window.__stillSince = undefined")
    try:
        page.wait_for_function(_SETTLED, arg=hold * 1000, timeout=MILLISECONDS, polling=50)
    except TimeoutError as error:
        raise AssertionError(f"{page.url} does not come to rest: {page.evaluate(_STATE)}") from error
    return page


def visit(page: Page, url: str) -> Page:
    """Open an address and wait until it has settled; a Python exception on the page fails the test."""
    page.goto(url, timeout=MILLISECONDS)
    settled(page)
    exceptions = page.locator('[data-testid="stException"]')
    assert exceptions.count() == 0, f"{url} shows an exception:\n{exceptions.first.inner_text()}"
    return page


def in_address(page: Page, part: str) -> None:
    """Expect a part of the address, which is written when a page has been drawn: some time after what is seen."""
    expect(page).to_have_url(re.compile(re.escape(part)))


def stop_button(page: Page) -> Locator:
    """The page's own Stop, not the one that Streamlit puts into the header while a script runs."""
    return page.get_by_test_id("stMain").get_by_role("button", name="Stop", exact=True)


def pulled(page: Page, part: Locator, down: float) -> None:
    """Take a part by its middle and pull it down so many pixels, without letting go."""
    box = part.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + down, steps=4)
