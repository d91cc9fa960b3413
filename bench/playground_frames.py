"""Milliseconds from a move of a Playground's slider to its picture: ``python -m bench.playground_frames URL``.

``URL`` is the app's address. Each round moves one slider a hundred times to another place, at another moment of the
frame each time, in a headless Chromium without a GPU. ``script`` is the event's own handler, which draws everything;
``frame`` ends as the next animation frame begins, which waits for the screen's clock of 16.7 ms; ``work`` is script,
style, layout and paint of the processor, for one move.
"""

from __future__ import annotations

import argparse
import os
import statistics

from playwright.sync_api import sync_playwright

from bench.frame_cost import traced
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled

MOVES = 100
SLIDERS = {"rank": "Rank", "rate": "Learning rate", "step": "Training step"}
_MOVE = """async ([name, moves]) => {
  const host = [...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')]
    .map((one) => one.shadowRoot?.querySelector('.playground')).find(Boolean);
  const range = host.querySelector(`#${name}`), most = Number(range.max);
  const times = [];
  for (let move = 0; move < moves; move += 1) {
    await new Promise((resume) => setTimeout(resume, 20 + (move * 7) % 17));
    const share = (move * 0.381966) % 1;
    const start = performance.now();
    range.value = most * share;
    range.dispatchEvent(new Event('input', { bubbles: true, composed: true }));
    const drawn = performance.now();
    await new Promise(requestAnimationFrame);
    times.push([drawn - start, performance.now() - start]);
  }
  return times;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        page.goto(f"{asked.url.rstrip('/')}/playground", timeout=120_000)
        page.wait_for_selector(".playground .mine", timeout=60_000)
        settled(page, 120)
        print(
            f"{browser.version}, software rendering; load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
        )
        print("| slider | script p50 | p95 (ms) | frame p50 | p95 (ms) | work (ms) |")
        print("|---|---:|---:|---:|---:|---:|")
        for name, title in SLIDERS.items():
            rounds = [page.evaluate(_MOVE, [name, MOVES]) for _ in range(asked.rounds)]
            with traced(browser, page) as spent:
                page.evaluate(_MOVE, [name, MOVES])
            cells = [title]
            for kind in (0, 1):
                times = [sorted(one[kind] for one in taken) for taken in rounds]
                cells += [
                    f"{statistics.median(one[int(share * MOVES)] for one in times):.1f}"
                    for share in (0.5, 0.95)
                ]
            print(f"| {' | '.join(cells)} | {sum(spent().values()) / MOVES:.1f} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
