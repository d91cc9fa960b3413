"""What a learner meets first, in Chromium on a running app: paint, layout shift, elements that stick out.

``python -m bench.first_screen http://localhost:8501`` prints one line an address and width, of every page and every
tab; the first is that of Home, cold on a server that was just started. Layout shift is CLS as the metric is defined:
the largest sum of the browser's shifts in a window of at most five seconds without a pause of one second, those within
500 ms of an input left out. ``--moved`` adds what moved, from where to where. ``--write`` makes
``bench/results/layout_shift.json`` of what was measured: run again with ``--address``, it replaces those rows.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from peft_lab.ui.compare.page import TITLES as COMPARED
from peft_lab.ui.method.tabs import PARTS, parts_of, titles_of
from peft_lab.ui.pages import method_pages, titles
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled, sticks_out

#: Widths that are looked at, with their heights.
WIDTHS = {390: 844, 1280: 800, 1920: 1080}
#: States of a page that are no tab of a method.
_STATES = (
    *(f"compare?tab={tab.replace(' ', '+')}" for tab in list(COMPARED)[1:]),
    "atlas?type=dora",
    "memory?tab=curves",
    "practice?tab=interview",
    "write?all=yes",
)
RECORDED = (1280, 1920)  # in the table of layout shifts
MOST_SHIFT = 0.05
# no figure that waits for what is simulated or counted: what comes later would move what is there
_DONE = """() => !/Simulating|Counting…/.test(document.querySelector('[data-testid="stMain"]').innerText)"""
RECORD = Path(__file__).with_name("results") / "layout_shift.json"
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


def addresses() -> tuple[str, ...]:
    """Return the address of every page, and of every tab that opens by one."""
    tabs = [
        f"{slug}?tab={tab.lower()}" + (f"&part={part.lower().replace(' ', '+')}" if part else "")
        for slug in method_pages()
        for tab in titles_of(slug)[1:]  # the first is the page as it opens
        for part in (parts_of(slug, tab) if tab in PARTS else ("",))
    ]
    return (*("" if name == "home" else name for name in titles()), *_STATES, *tabs)


def measured(page: Page, url: str) -> tuple[str, float]:
    """Open the address and wait until it has settled; return what was found as one line, and the layout shift."""
    page.goto(url, timeout=120_000)
    settled(page, 120)
    page.wait_for_function(_DONE, timeout=120_000)
    settled(page, 120)
    page.wait_for_timeout(500)
    painted, titled = page.evaluate("window.paints['first-contentful-paint']"), page.evaluate("window.titled")
    shift, cut = cumulative(page.evaluate("window.shifts")), sticks_out(page)
    return f"first paint {painted} ms, title {titled} ms, CLS {shift:.3f}, {cut} elements stick out", shift


def record(shifts: Mapping[str, Mapping[int, float]]) -> None:
    """Write the table of layout shifts, those over the aim in bold; rows that were not measured now stay."""
    widths = RECORDED
    rows = (
        {row[0]: row[1:] for row in json.loads(RECORD.read_text("utf-8"))["rows"]} if RECORD.exists() else {}
    )
    for address, found in shifts.items():
        before = rows.get(address or "home", ["–"] * len(widths))
        rows[address or "home"] = [
            _cell(found[width]) if width in found else cell
            for width, cell in zip(widths, before, strict=True)
        ]
    commit = subprocess.run(
        ["git", "rev-parse", "--short=8", "HEAD"], capture_output=True, text=True, check=True
    )
    order = {address or "home": place for place, address in enumerate(addresses())}
    columns: list[dict[str, object]] = [{"name": "address", "align": "left"}]
    columns += [{"name": str(width), "align": "right", "forms": ["{:.3f}"]} for width in widths]
    head = {
        "section": "First screen",
        "command": "python -m bench.first_screen URL --write",
        "machine": f"{platform.machine()}, no GPU",
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "columns": columns,
    }
    lines = [json.dumps([name, *cells], ensure_ascii=False) for name, cells in rows.items() if name in order]
    lines.sort(key=lambda line: order[json.loads(line)[0]])
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    RECORD.write_text(text + ',\n "rows": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n", "utf-8")


def _cell(shift: float) -> float | dict[str, object]:
    shown = round(shift, 3)
    return shown if shown < MOST_SHIFT else {"form": "**{:.3f}**", "values": [shown]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument(
        "--address", action="append", metavar="PATTERN", help="only those that match it whole"
    )
    parser.add_argument("--width", action="append", type=int, choices=tuple(WIDTHS))
    parser.add_argument("--moved", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    wanted = re.compile("|".join(options.address or [".*"]))
    shifts: dict[str, dict[int, float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        for width in options.width or WIDTHS:
            for address in filter(wanted.fullmatch, addresses()):
                context = browser.new_context(viewport={"width": width, "height": WIDTHS[width]})
                context.add_init_script(WATCH)
                page = context.new_page()
                line, shift = measured(page, f"{options.url.rstrip('/')}/{address}")
                moved = page.evaluate("window.moved") if options.moved else []
                print("\n  ".join([f"{address or 'home'} {width}: {line}", *moved]), flush=True)
                shifts.setdefault(address, {})[width] = shift
                context.close()
                if options.write:
                    record(shifts)
        browser.close()


if __name__ == "__main__":
    main()
