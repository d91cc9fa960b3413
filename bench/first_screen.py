"""What a learner meets first, in Chromium on a running app: paint, layout shift, elements that stick out.

``python -m bench.first_screen http://localhost:8501`` prints one line a page and width; the first is that of Home, cold
on a server that was just started. Layout shift is CLS as the metric is defined: the largest sum of the browser's
shifts in a window of at most five seconds without a pause of one second, those within 500 ms of an input left out.
``--moved`` adds what moved, from where to where.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from playwright.sync_api import Page, sync_playwright

from peft_lab.ui.pages import titles
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled, sticks_out

WIDTHS = (390, 1280)
WATCH = """
  window.shifts = [];
  window.moved = [];
  const told = (one, { node, previousRect: old, currentRect: now }) => {
    const named = (node?.closest ? node : node?.parentElement)?.closest('[class*="st-key"], [data-testid]');
    const key = [...(named?.classList ?? [])].find((name) => name.startsWith('st-key'));
    const text = (node?.textContent ?? '').trim().slice(0, 30);
    const box = (it) => [it.x, it.y, it.width, it.height].map(Math.round).join(' ');
    const when = `${Math.round(one.startTime)} ms ${one.value.toFixed(3)}`;
    return `${when} ${key ?? named?.dataset.testid} [${text}] ${box(old)} -> ${box(now)}`;
  };
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) if (!one.hadRecentInput) {
      window.shifts.push([one.startTime, one.value]);
      if (one.value < 0.002) continue;
      for (const source of one.sources) window.moved.push(told(one, source));
    }
  }).observe({ type: 'layout-shift', buffered: true });
  window.paints = {};
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.paints[entry.name] = Math.round(entry.startTime);
  }).observe({ type: 'paint', buffered: true });
  const look = setInterval(() => {
    if (!document.querySelector('h1')) return;
    window.titled = Math.round(performance.now());
    clearInterval(look);
  }, 20);
"""


def cumulative(shifts: Sequence[tuple[float, float]]) -> float:
    """CLS of shifts, each its time in milliseconds and its value, in order."""
    largest = total = 0.0
    begun = before = -math.inf
    for when, value in shifts:
        if when - before >= 1000 or when - begun >= 5000:
            begun, total = when, 0.0
        before, total = when, total + value
        largest = max(largest, total)
    return largest


def measured(page: Page, url: str, moved: bool = False) -> str:
    """Open the address and wait until it has settled; what was found, as one line, then one for each that moved."""
    page.goto(url, timeout=120_000)
    settled(page, 120)
    page.wait_for_timeout(500)
    painted, titled = page.evaluate("window.paints['first-contentful-paint']"), page.evaluate("window.titled")
    shift, cut = cumulative(page.evaluate("window.shifts")), sticks_out(page)
    found = f"first paint {painted} ms, title {titled} ms, CLS {shift:.3f}, {cut} elements stick out"
    return "\n  ".join([found, *(page.evaluate("window.moved") if moved else ())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--page", action="append", choices=tuple(titles()))
    parser.add_argument("--width", action="append", type=int)
    parser.add_argument("--moved", action="store_true")
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        for width in asked.width or WIDTHS:
            for name in asked.page or titles():
                context = browser.new_context(viewport={"width": width, "height": 800})
                context.add_init_script(WATCH)
                address = f"{asked.url.rstrip('/')}/{'' if name == 'home' else name}"
                print(f"{name} {width}: {measured(context.new_page(), address, asked.moved)}", flush=True)
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
