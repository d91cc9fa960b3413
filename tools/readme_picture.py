"""Photograph a running app's Home for README: ``python -m tools.readme_picture http://localhost:8501``.

Beside the picture stand the doors and tabs that the app had (``docs/app.json``); ``tests/test_readme.py`` fails when
the app has others, so that nobody is shown a layout that is gone. Needs Playwright and a Chromium.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from peft_lab.ui import pages
from peft_lab.ui.method import tabs
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled

PICTURE = Path(__file__).parents[1] / "docs/app.png"
LAYOUT = PICTURE.with_suffix(".json")


def layout() -> dict[str, Any]:
    """Return the doors with their pages, and the tabs of a method's page, as the app has them."""
    behind = {door: [title for _, title in entries] for door, entries in pages.sections().items()}
    return {"doors": behind, "tabs": list(tabs.TITLES)}


def main(url: str) -> None:
    """Write the picture, 1280 by 800, of Home at rest, and the layout that it shows."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        page.goto(url)
        settled(page, 120)
        page.wait_for_timeout(2_000)
        page.screenshot(path=PICTURE)
        browser.close()
    LAYOUT.write_text(json.dumps(layout(), indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
