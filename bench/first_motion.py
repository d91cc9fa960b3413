"""What Home promises, in Chromium on a server of its own: seconds to the first motion, one click to the verdict.

    python -m bench.first_motion [--repeats 3] [--width 1280] [--reading 20] [--no-training]

Each repeat starts a server and opens Home as its first page: cold is from the address to the first frame in which the
recorded run plays; warm is the same in a new session right after. The server has what ``peft-lab fetch`` leaves: the
weights, and this processor's speed. After ``--reading`` seconds Home's button is pressed: from there to a loss, to the
first answer of the sample that differs from the one before, and to the verdict, the tuned model's score, each as it
stands on the screen. Prints the machine's load beside it, and the run's steps a second: machines of one kind differ by
half.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from peft_lab.engine.timing import here
from tests.browser.conftest import served
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path
from tests.conftest import link

# the first frame in which the recorded run has moved on from its first step
_WATCH = """
  const look = () => {
    for (const one of document.querySelectorAll('[data-testid=stBidiComponentIsolated]')) {
      const run = one.shadowRoot?.querySelector('.sentence');
      if (run?.dataset.playing === 'true' && run.dataset.step > 0) { window.moved = performance.now(); return; }
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
"""
# the curve of the learner's own run
_LOSS = """() => document.querySelector('.js-plotly-plot .scatterlayer .trace') !== null"""
# two different answers of the learner's own sample
_CHANGED = """() =>
  new Set([...document.querySelectorAll('.sample .answer .text')].map((it) => it.innerText)).size > 1
"""
_VERDICT = """() => document.body.innerText.includes('held-out loss')"""


def opened(browser: Browser, url: str, width: int) -> tuple[Page, float]:
    """Home in a new session, and the seconds until the run moved."""
    context = browser.new_context(viewport={"width": width, "height": 800})
    context.add_init_script(_WATCH)
    page = context.new_page()
    page.goto(url, timeout=120_000)
    page.wait_for_function("() => window.moved", timeout=240_000)
    return page, page.evaluate("window.moved") / 1000


def after_press(page: Page, home: Path) -> dict[str, float]:
    """Seconds from the one click to a loss, a changed answer and the verdict on screen; the run's steps a second."""
    start, found = time.perf_counter(), {}
    page.locator(".st-key-train-now button").first.click(timeout=120_000)
    for name, seen in (("first loss", _LOSS), ("changed answer", _CHANGED), ("verdict", _VERDICT)):
        page.wait_for_function(seen, timeout=600_000, polling=500)  # each look lays the page out
        found[f"one click on Home to the {name}"] = time.perf_counter() - start
    events = max((home / "runs").glob("*/events.jsonl"), key=os.path.getmtime).read_text("utf-8").splitlines()
    taken = [event["seconds"] for event in map(json.loads, events) if event["type"] == "step"]
    return {**found, "steps a second of that run": len(taken) / sum(taken)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--reading", type=float, default=20.0)
    parser.add_argument("--no-training", action="store_true")
    asked = parser.parse_args()
    if not here.complete():
        raise SystemExit("This processor's speed is not known here: run peft-lab fetch first.")
    found: dict[str, list[float]] = {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        for number in range(asked.repeats):
            home = Path(folder) / str(number)
            link(home)
            shutil.copy(here.place(), home)
            with served(home, Path(folder) / "log") as url:
                page, seconds = opened(browser, url, asked.width)
                found.setdefault("first motion, cold server", []).append(seconds)
                page.context.close()
                page, seconds = opened(browser, url, asked.width)
                found.setdefault("first motion, warm server", []).append(seconds)
                if not asked.no_training:
                    time.sleep(asked.reading)
                    for name, value in after_press(page, home).items():
                        found.setdefault(name, []).append(value)
                page.context.close()
        browser.close()
    print(f"load {os.getloadavg()[0]:.0f}")
    for name, values in found.items():
        print(f"{name:38} median {statistics.median(values):.2f}   {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
