"""axe-core over every page of a running app with everything unfolded: each tab, each expander, each popover.

    python -m bench.unfolded http://localhost:8501 [--page lora] [--width 390]

Prints one line a state and width, with the serious and critical faults of both themes under it; ends with 1 where there
is any. ``tests/browser/test_accessibility.py`` looks at the pages as they open; this takes an hour on two busy cores.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

from peft_lab.ui.pages import titles
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled
from tests.browser.test_accessibility import QUERY, severe

WIDTHS = {390: 844, 1280: 1000}
_MAIN = '[data-testid="stMain"]'
_TABS = f'{_MAIN} [role="tab"]'
_POPOVERS = f'{_MAIN} [data-testid="stPopover"] button:not([disabled])'
_FOLDED = f"""() => {{
  const folded = [...document.querySelectorAll('{_MAIN} details:not([open]) > summary')];
  folded.forEach((summary) => summary.click());
  return folded.length;
}}"""
_DEEPEST = 4  # expanders within expanders


def unfold(page: Page) -> int:
    """Open every expander, also those that stand in one; how many there were."""
    opened = 0
    for _ in range(_DEEPEST):
        more = int(page.evaluate(_FOLDED))
        if not more:
            break
        opened += more
        settled(page, 120)
    return opened


def states(page: Page) -> Iterator[str]:
    """Every tab in turn with its expanders open, and there every popover; what is open, in words."""
    names = [tab.inner_text().strip() for tab in page.locator(_TABS).all()]
    for at, name in enumerate(names or [""]):
        if name and page.locator(_TABS).count() > at:
            page.locator(_TABS).nth(at).click()
            settled(page, 120)
        opened = unfold(page)
        yield f"{name or 'the page'}, {opened} unfolded"
        for number in range(page.locator(_POPOVERS).count()):
            button = page.locator(_POPOVERS).nth(number)
            if not button.is_visible():
                continue
            words = button.inner_text().strip()
            button.click()
            settled(page, 120)
            yield f"{name or 'the page'}, popover {words}"
            page.keyboard.press("Escape")


def faults(page: Page) -> list[str]:
    """Of both themes, light left on."""
    found = []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(400)
        settled(page, 120)  # the page is drawn again in its other colours, paler meanwhile
        found += [f"{scheme}: {line}" for line in severe(page)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--page", action="append", choices=tuple(titles()))
    parser.add_argument("--width", action="append", type=int, choices=tuple(WIDTHS))
    asked = parser.parse_args()
    looked = wrong = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        for width in asked.width or WIDTHS:
            for name in asked.page or titles():
                context = browser.new_context(viewport={"width": width, "height": WIDTHS[width]})
                page = context.new_page()
                address = f"{'' if name == 'home' else name}{QUERY.get(name, '')}"
                page.goto(f"{asked.url.rstrip('/')}/{address}", timeout=120_000)
                settled(page, 120)
                for state in states(page):
                    found = faults(page)
                    looked, wrong = looked + 1, wrong + len(found)
                    print("\n  ".join([f"{name} {width}: {state}: {len(found)} faults", *found]), flush=True)
                context.close()
        browser.close()
    print(f"{looked} states in light and dark, {wrong} faults; load {os.getloadavg()[0]:.0f}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
