"""How long a person waits: first page of a fresh server, a deep link, a slider's effect, Train to first loss.

    python -m bench.pages [--repeats 5]

Needs Chromium and the fetched weights. Every figure is the median over the repeats, in seconds, of what a browser sees:
from the navigation or key press until the page is at rest with the new figure in it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import served
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path
from tests.conftest import link

COUNT = "[data-testid=stMetricValue]"
BARS = "table.figures"
# every row of the memory table has other figures, and as many rows as before are there
_MOVED = """old => {
  const rows = [...(document.querySelector("table.figures")?.rows ?? [])].map(row => row.innerText);
  return rows.length === old.length
    && rows.slice(1).every((row, place) => row !== old[place + 1]);
}"""


def opened(browser: Browser, url: str, ready: str) -> tuple[Page, float]:
    """A page in a new session, and the seconds until ``ready`` stood on it."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    start = time.perf_counter()
    page.goto(url)
    expect(page.locator(ready).first).to_be_visible(timeout=60_000)
    return page, time.perf_counter() - start


def opened_in(browser: Browser, url: str, ready: str) -> float:
    """Seconds until ``ready`` stood on a page in a new session."""
    return opened(browser, url, ready)[1]


def slider(page: Page) -> float:
    """Seconds from a key on the rank slider until the count has followed."""
    card = page.locator(COUNT).first
    before = card.inner_text()
    page.get_by_role("slider", name="Rank r").first.focus()  # the drawing has one of that name too
    start = time.perf_counter()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([where, old]) => document.querySelector(where).innerText !== old", arg=[COUNT, before], polling=10
    )
    return time.perf_counter() - start


def handle(page: Page) -> float:
    """Return the seconds from a key on the drawing's own rank handle until the server's count has followed."""
    card = page.locator(COUNT).first
    before = card.inner_text()
    page.locator(".grip[role=slider]").first.focus()
    start = time.perf_counter()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([where, old]) => document.querySelector(where).innerText !== old", arg=[COUNT, before], polling=10
    )
    return time.perf_counter() - start


def bars(page: Page) -> float:
    """Seconds from a key on the Memory page's batch until every method's figures have followed."""
    before = page.locator(BARS).first.evaluate("table => [...table.rows].map(row => row.innerText)")
    page.get_by_role("spinbutton", name="Batch size").focus()
    start = time.perf_counter()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_function(_MOVED, arg=before, polling=10, timeout=60_000)
    return time.perf_counter() - start


def memory_page(browser: Browser, url: str) -> Page:
    """The Memory page with all its bars: Llama 3.2 3B, every method that runs on it."""
    page, _ = opened(browser, f"{url}/memory", BARS)
    expect(page.get_by_role("slider", name="Moment")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("Simulating")).to_have_count(0, timeout=120_000)
    page.wait_for_timeout(3000)
    return page


def first_loss(page: Page, home: Path) -> float:
    """Seconds from the press on Train until the first loss is in the run's events (warm server)."""
    known = set((home / "runs").glob("2*")) if (home / "runs").exists() else set()
    start = time.time()
    page.get_by_role("button", name="Train", exact=True).click()
    while True:
        for folder in set((home / "runs").glob("2*")) - known if (home / "runs").exists() else ():
            log = folder / "events.jsonl"
            steps = (
                [line for line in log.read_text().splitlines() if '"type": "step"' in line]
                if log.exists()
                else []
            )
            if steps:
                found = float(json.loads(steps[0])["time"]) - start
                page.get_by_role("button", name="Stop", exact=True).click()
                expect(page.locator("strong", has_text=re.compile("^Stopped$"))).to_be_visible(timeout=60_000)
                return found
        time.sleep(0.01)


def measure(repeats: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}

    def note(name: str, take: Callable[[], float]) -> None:
        found.setdefault(name, []).append(take())

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        home = Path(folder) / "home"
        link(home)
        log = Path(folder) / "log"
        for _ in range(repeats):
            with served(home, log) as url:
                note("first page of a fresh server", partial(opened_in, browser, url, "h1"))
            with served(home, log) as url:
                note(
                    "LoRA page of a fresh server, with its count",
                    partial(opened_in, browser, f"{url}/lora", COUNT),
                )
        with served(home, log) as url:
            opened(
                browser, f"{url}/lora?tab=inside&part=parameters", "text=the count and the formula both give"
            )
            for _ in range(repeats):
                note("LoRA page, warm server", partial(opened_in, browser, f"{url}/lora", COUNT))
            page, _ = opened(browser, f"{url}/lora?r=1", COUNT)
            page.wait_for_timeout(3000)
            for _ in range(repeats):
                note("slider to count", lambda: slider(page))
                page.wait_for_timeout(500)
            page, _ = opened(browser, f"{url}/lora?r=1", COUNT)
            page.wait_for_timeout(3000)
            for _ in range(repeats):
                note("the drawing's handle to count", lambda: handle(page))
                page.wait_for_timeout(1000)
            page = memory_page(browser, url)
            for _ in range(repeats):
                note("Memory page: batch to bars of all methods", partial(bars, page))
                page.wait_for_timeout(500)
            page, _ = opened(browser, f"{url}/lora?tab=train&rows=0&steps=200", "button:has-text('Train')")
            for _ in range(repeats):
                note("Train to first loss, SmolLM2", lambda: first_loss(page, home))
                page.wait_for_timeout(1500)
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    found = measure(parser.parse_args().repeats)
    for name, values in found.items():
        print(f"{name:45} median {statistics.median(values):.2f} s   {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
