"""The loop of animation frames, with frames that a test sends: as many are painted as somebody can be looking for."""

from __future__ import annotations

from importlib.resources import files

import pytest
from playwright.sync_api import Browser

_FRAMES = 60
_RUN = """async ({ text, near, trains, frames }) => {
  let asked;
  window.requestAnimationFrame = (turn) => (asked = turn, 1);
  const begun = performance.now();
  const { Player } = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  let painted = 0;
  const player = new Player({
    onState() {}, onPhase() {}, onFrame() { painted += 1; }, still: false, near: () => near, trains: () => trains,
  });
  player.last = 5;
  player.seen = true;
  player.play();
  for (let frame = 1; frame <= frames; frame += 1) asked(begun + 20 + frame * 1000 / 60);
  return painted;
}"""


@pytest.mark.parametrize(
    ("near", "trains", "painted"),
    [
        (True, False, _FRAMES),
        (True, True, _FRAMES),
        (False, False, _FRAMES // 2),
        (False, True, _FRAMES // 6),
    ],
)
def test_fewer_frames_are_painted_while_no_pointer_is_on_it_and_fewest_while_a_run_trains(
    chromium: Browser, near: bool, trains: bool, painted: int
) -> None:
    folder = files("peft_lab.drawing") / "js"
    text = "\n".join(
        (folder / name).read_text("utf-8").replace('import { clamp } from "./numbers.js";', "")
        for name in ("numbers.js", "player.js")
    )
    page = chromium.new_page()
    found = page.evaluate(_RUN, {"text": text, "near": near, "trains": trains, "frames": _FRAMES})
    page.close()
    assert abs(found - painted) <= 0.15 * painted  # a busy machine leaves out a frame
