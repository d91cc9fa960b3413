"""Photograph every page of a running app, to look at: ``python -m tools.gallery http://localhost:8501 OUT``.

Each page is opened at several widths in both themes and photographed from top to bottom; ``--page lora --width 390
--theme dark`` (each may be repeated) narrows that down, ``--query tab=Train`` opens the pages at a setting. Needs
Playwright and a Chromium, as the browser tests do.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, get_args

from playwright.sync_api import Page, sync_playwright

from peft_lab.ui.pages import titles
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled, sticks_out

Theme = Literal["light", "dark"]
WIDTHS = (390, 1280, 1920)
#: Higher pictures than this are cut: nobody looks at them, and Chromium runs out of memory.
HIGHEST = 9_000
# the page scrolls inside the app, so that a photograph of the document shows what is in view only
_SCROLLED = '[data-testid="stMain"], [data-testid="stSidebarContent"]'
_HEIGHT = "(parts) => Math.max(...[...document.querySelectorAll(parts)].map((part) => part.scrollHeight))"


def photograph(page: Page, url: str, width: int, out: Path) -> int:
    """Open an address and write its picture, ``width`` pixels wide and as high as the page is.

    Returns how many elements stick out of the window on the right.
    """
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(url, timeout=120_000)
    settled(page, 120)
    page.set_viewport_size(
        {"width": width, "height": min(HIGHEST, max(900, page.evaluate(_HEIGHT, _SCROLLED) + 20))}
    )
    settled(page, 120)
    page.wait_for_timeout(400)  # charts are drawn after the page has settled
    page.screenshot(path=out)
    return sticks_out(page)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--page", action="append", choices=tuple(titles()))
    parser.add_argument("--width", action="append", type=int)
    parser.add_argument("--theme", action="append", choices=get_args(Theme))
    parser.add_argument("--query", default="")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        for theme in asked.theme or get_args(Theme):
            options: dict[str, Any] = {"color_scheme": theme}
            page = browser.new_context(**options).new_page()
            for name in asked.page or titles():
                address = f"{asked.url.rstrip('/')}/{'' if name == 'home' else name}"
                for width in asked.width or WIDTHS:
                    out = asked.out / f"{name}-{width}-{theme}.png"
                    cut = photograph(page, f"{address}?{asked.query}" if asked.query else address, width, out)
                    print(f"{out.name}: {f'{cut} elements stick out' if cut else 'ok'}", flush=True)
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main()
