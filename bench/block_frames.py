"""Frame times of the living block while a hand scrubs, plays or drags: ``python -m bench.block_frames URL``.

``URL`` is a page with the block, such as Home, a method's page at its model or ``streamlit run
tests/browser/living_page.py``. Times between animation frames are those of a headless Chromium without a GPU (software
rendering), so 16.7 ms is the floor; CPU time depends less on what else the machine does.
"""

from __future__ import annotations

import os
import statistics
import sys

from playwright.sync_api import Browser, Page, sync_playwright

from bench.frame_cost import KINDS, share_of_a_core, traced
from peft_lab.drawing.living import living_module
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled

FRAMES = 240
SECONDS = 8.0  # of playing
_HOST = """[...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')]
    .map((one) => one.shadowRoot?.querySelector('.host')).find((one) => one?.living?.run)"""
_PLAY = f"() => {_HOST}.living.player.play()"
_MEASURE = """async ([act, frames]) => {
  const host = HOST;
  const living = host.living, last = living.run.last, times = [];
  const steps = host.querySelector('.steps'), box = steps.getBoundingClientRect();
  const pointer = (node, name, x, y) => node.dispatchEvent(new PointerEvent(name, {
    clientX: x, clientY: y, pointerId: 1, bubbles: true, isPrimary: true }));
  const strip = host.querySelector('.wide [data-mark="A"]'), at = strip.getBoundingClientRect();
  steps.setPointerCapture = () => {};
  if (act === 'play') living.player.play();
  if (act === 'drag') pointer(strip, 'pointerdown', at.x + 20, at.y + 2);
  if (act === 'scrub') pointer(steps, 'pointerdown', box.x, box.y + 5);
  let before = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < frames; frame += 1) {
    const share = Math.abs(Math.sin(frame / 9));
    if (act === 'scrub') pointer(steps, 'pointermove', box.x + box.width * share, box.y + 5);
    if (act === 'drag') pointer(window, 'pointermove', at.x + 20, at.y + 2 + 60 * share);
    if (act === 'play' && !living.player.playing) living.player.play();
    const now = await new Promise(requestAnimationFrame);
    times.push(now - before);
    before = now;
  }
  if (act === 'scrub') pointer(steps, 'pointerup', box.x, box.y + 5);
  if (act === 'drag') window.dispatchEvent(new PointerEvent('pointercancel'));
  living.player.pause();
  return times;
}""".replace("HOST", _HOST)


def measure(browser: Browser, page: Page, act: str) -> tuple[float, float, dict[str, float]]:
    """Milliseconds between two frames, the median and what 95 of 100 stay below; and of CPU a frame, by kind."""
    times = sorted(page.evaluate(_MEASURE, [act, FRAMES]))
    with traced(browser, page) as spent:
        page.evaluate(_MEASURE, [act, FRAMES])
    costs = {kind: milliseconds / FRAMES for kind, milliseconds in spent().items()}
    return statistics.median(times), times[int(0.95 * len(times))], costs


def main(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        print(f"module {len(living_module().encode()):,} bytes; {browser.version}, software rendering")
        print(f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
        kinds = " | ".join(KINDS)
        print(f"| width | what | p50 (ms) | p95 (ms) | CPU a frame (ms): {kinds} | together |")
        print(f"|---:|---|---:|---:|{'---:|' * (len(KINDS) + 1)}")
        for width in (1280, 390):
            page = browser.new_context(viewport={"width": width, "height": 1000}).new_page()
            page.goto(url, timeout=120_000)
            page.wait_for_selector(".steps", timeout=60_000)
            settled(page, 120)
            page.wait_for_timeout(1500)
            for act in ("scrub", "play", "drag"):
                middle, high, costs = measure(browser, page, act)
                told = " | ".join(f"{costs[kind]:.2f}" for kind in KINDS)
                print(
                    f"| {width} | {act} | {middle:.1f} | {high:.1f} | {told} | {sum(costs.values()):.2f} |",
                    flush=True,
                )
            page.evaluate(_PLAY)
            page.mouse.move(1, 1)
            print(
                f"{width}: playing keeps {share_of_a_core(browser, page, SECONDS):.0%} of a core busy",
                flush=True,
            )
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
