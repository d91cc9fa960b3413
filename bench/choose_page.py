"""From a change of the situation on the page Choose to the new answer on the screen, in Chromium on a running app.

``python -m bench.choose_page http://localhost:8501 [--rounds 5]`` changes model, rows, device and length one after
another, two seconds after the last answer, and prints the median and the worst of each in seconds: from the key that
sends the change to the first frame in which the new answer is there and nothing of it is marked as old. A round begins
at the usual length; no value comes twice. The first round, in which the processes that answer still import, does not
count. ``--processor`` asks for the same answers in this process and prints the processor time that each takes: what a
quiet machine would need at least, however loaded this one is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

from playwright.sync_api import Page, sync_playwright

from peft_lab.advise.recommend import recommend
from peft_lab.advise.room import room_of
from peft_lab.advise.situation import Situation
from peft_lab.core import units
from peft_lab.engine.devices import get_device
from peft_lab.models.catalogue import get_model
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled

MODELS = ("llama-3.1-8b", "qwen2.5-7b", "llama-3.2-1b", "mistral-7b", "gemma-2-2b", "qwen2.5-0.5b")
DEVICES = ("a100-40", "rtx-3060", "l4", "h100", "t4", "a100-80")
ROWS = (12_345, 150_000, 640, 23_456, 110_000, 34_567)
LENGTHS = (1024, 700, 384, 1500, 900, 1200)
USUAL = Situation()
WAIT, PAUSE = 300_000, 2000  # milliseconds
# The answer has a text, in an element that is not marked as old; and when the key that sends the change was pressed.
_WATCH = """(wanted) => {
  window.seen = window.sent = undefined;
  addEventListener('keydown', (event) => {
    if (event.key === 'Enter') window.sent = performance.now();
  }, { capture: true });
  const main = document.querySelector('[data-testid="stMain"]');
  const look = () => {
    const all = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
    while (window.sent !== undefined && all.nextNode()) {
      const at = all.currentNode, around = at.parentElement;
      if (!at.textContent.includes(wanted) || around.closest('[data-stale="true"]')) continue;
      if (around.closest('[data-testid="stSelectbox"], .st-key-situation') || !around.offsetParent) continue;
      window.seen = performance.now();
      return;
    }
    requestAnimationFrame(look);
  };
  look();
}"""


def changed(page: Page, label: str, value: str, wanted: str, choice: bool = False) -> float:
    """Seconds from sending a field's new value until ``wanted`` stands in the answer."""
    field = page.get_by_label(label, exact=True)
    field.click()
    field.fill(value)
    if choice:
        page.get_by_role("option", name=value, exact=True).first.wait_for()
    page.evaluate(_WATCH, wanted)
    page.keyboard.press("Enter")
    page.wait_for_function("() => window.seen !== undefined", timeout=WAIT)
    took: float = page.evaluate("(window.seen - window.sent) / 1000")
    page.wait_for_timeout(PAUSE)
    return took


def measured(page: Page, number: int) -> Iterator[tuple[str, float]]:
    """One round: what was changed, and the seconds that it took."""
    model, card = get_model(MODELS[number]).title, get_device(DEVICES[number])
    rows, length = ROWS[number], LENGTHS[number]
    yield "model", changed(page, "Model", model, f"of {model}", choice=True)
    yield "rows", changed(page, "Training rows", str(rows), f"{rows:,} ")
    title = card.title[:1].upper() + card.title[1:]
    yield "device", changed(page, "Device", title, f"of {units.size(card.memory)}", choice=True)
    yield "length", changed(page, "Longest row", str(length), f"× {length:,} tokens")
    changed(page, "Longest row", str(USUAL.seq), f"× {USUAL.seq:,} tokens")


def spent(number: int) -> Iterator[tuple[str, float]]:
    """The same round without a page: processor seconds of each answer."""
    at = USUAL
    for name, change in (
        ("model", {"model": MODELS[number]}), ("rows", {"rows": ROWS[number]}),
        ("device", {"device": DEVICES[number]}), ("length", {"seq": LENGTHS[number]}),
    ):  # fmt: skip
        at = replace(at, **change)
        begun = time.process_time()
        recommend(at, room_of(at))
        yield name, time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--processor", action="store_true")
    parser.add_argument("--rounds", type=int, default=len(MODELS), choices=range(2, len(MODELS) + 1))
    asked = parser.parse_args()
    if asked.processor:
        recommend(USUAL, room_of(replace(USUAL, seq=USUAL.seq + 1)))
        print("processor time")
        report([pair for number in range(asked.rounds) for pair in spent(number)])
    if asked.url is None:
        return
    found: list[tuple[str, float]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{asked.url.rstrip('/')}/choose", timeout=WAIT)
        settled(page, 300)
        for number in range(asked.rounds):
            for name, took in measured(page, number):
                print(f"round {number + 1}, {name}: {took:.2f} s", flush=True)
                if number:
                    found.append((name, took))
        browser.close()
    print("on the page")
    report(found)


def report(found: list[tuple[str, float]]) -> None:
    """Median and worst of each kind of change, and of all."""
    for name in (*dict.fromkeys(name for name, _ in found), "all"):
        each = [took for other, took in found if name in (other, "all")]
        print(
            f"{name}: median {statistics.median(each):.2f} s, worst {max(each):.2f} s of {len(each)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
