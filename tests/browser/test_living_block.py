"""The living block under a hand: it plays, is scrubbed by keys, keeps still where that is wanted, and is dragged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from peft_lab.drawing.living import living_module
from tests.browser.conftest import ROOT, served
from tests.browser.driver import pulled, settled, visit

STILL = {"reduced_motion": "reduce"}


@pytest.fixture(scope="module")
def block_url(app_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("living") / "log"
    with served(app_home, log, script="tests/browser/living_page.py", PYTHONPATH=str(ROOT)) as url:
        yield url


def steps(page: Page) -> Locator:
    return page.get_by_role("slider", name="Step", exact=True)


def filled(page: Page) -> float:
    """How much of the first strip A is filled, from 0 to 1."""
    share: float = page.locator(".wide .filled").first.evaluate(
        "bar => bar.getAttribute('width') / bar.previousElementSibling.getAttribute('width')"
    )
    return share


def test_keys_move_through_the_states_and_all_that_is_shown_follows(page: Page, block_url: str) -> None:
    visit(page, block_url)
    slider = steps(page)
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "step 0 of 8")
    assert filled(page) == 0
    expect(page.locator(".answer.before")).to_contain_text("negative")
    expect(page.locator(".answer.now")).to_contain_text("negative")
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "step 8 of 8, loss 0.1")
    assert filled(page) == pytest.approx(1, abs=0.01)  # the layer that moved furthest is shown
    expect(page.locator(".answer.now")).to_contain_text("Latest answer (step 4): right")
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuetext", "step 4 of 8, loss 0.5")
    assert filled(page) == pytest.approx(0.75, abs=0.01)
    expect(page.locator(".spoken")).to_contain_text("Step 4 of 8, forward. Loss 0.5. Block 6: q moved 18%")


@pytest.mark.parametrize("page", [STILL], indirect=True)
def test_a_run_that_goes_on_is_followed_as_its_events_come(page: Page, block_url: str) -> None:
    visit(page, f"{block_url}?live=1")
    expect(page.locator(".run-title")).to_have_text("Your run")
    line = page.locator(".curve-line").first
    # 12 points, of which the record has 8: nobody touched anything
    expect(line).to_have_attribute("d", re.compile("^M[^L]*(L[^L]*){11}$"))
    expect(page.locator(".to-come")).to_have_count(0)  # all of its 12 steps are there
    # the drawing shows the last state that was measured, and says how far the training is
    expect(page.locator(".run-step")).to_have_text("step 8 (training: 12) of 12, block 6")


def test_another_layer_is_shown_at_its_own_size(page: Page, block_url: str) -> None:
    visit(page, block_url)
    layers = page.get_by_role("slider", name="Block that the drawing shows")
    layers.focus()
    page.keyboard.press("Home")
    expect(layers).to_have_attribute("aria-valuetext", "Block 1 of 6: 4%")
    assert filled(page) == pytest.approx(1 / 6, abs=0.01)


def test_it_plays_to_the_end_and_then_rests(page: Page, block_url: str) -> None:
    visit(page, block_url)
    page.get_by_role("button", name=re.compile("Speed 1")).click()
    page.get_by_role("button", name=re.compile("Speed 2")).click()
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(steps(page)).to_have_attribute("aria-valuenow", "8")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    frames = "() => document.querySelector('[data-testid=stBidiComponentIsolated]').shadowRoot"
    page.wait_for_function(f"({frames})().querySelector('.host').living.player.frame === 0", timeout=10_000)


def test_a_call_that_was_overtaken_ends_nothing_and_one_whose_drawing_is_gone_ends_all(
    page: Page, block_url: str
) -> None:
    """Streamlit cleans up after a call whose data changed while its script was fetched: the drawing is in use."""
    visit(page, f"{block_url}?play=1")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.evaluate(
        """async (script) => {
          const made = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
          const root = document.querySelector("[data-testid=stBidiComponentIsolated]").shadowRoot;
          window.host = root.querySelector(".host");
          const data = [window.host.living.data];
          const draw = (await import(made)).default;
          window.clean = draw({ data, parentElement: root, setTriggerValue: () => {} });
        }""",
        living_module(),
    )
    plays = "() => window.host.living.player.frame !== 0"
    assert page.evaluate(plays)
    page.evaluate("() => { window.clean(); }")
    assert page.evaluate(plays)
    page.evaluate("() => { window.host.remove(); window.clean(); }")
    assert not page.evaluate(plays)


@pytest.mark.parametrize("page", [STILL], indirect=True)
def test_who_wants_no_motion_gets_none_and_still_steps(page: Page, block_url: str) -> None:
    visit(page, f"{block_url}?play=1")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    picture = "canvas => canvas.toDataURL()"
    before = page.locator("canvas.motion").evaluate(picture)
    page.wait_for_timeout(400)
    assert page.locator("canvas.motion").evaluate(picture) == before
    steps(page).focus()
    page.keyboard.press("ArrowLeft")
    expect(steps(page)).to_have_attribute("aria-valuenow", "4")


def test_the_rank_is_set_by_key_and_by_hand_and_the_count_follows(page: Page, block_url: str) -> None:
    visit(page, block_url)
    rank = page.get_by_role("slider", name="Rank r")
    rank.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".count")).to_have_text(f"{6 * 2 * 16 * 768:,} trained")  # before it is let go
    expect(page.get_by_text("rank 16,")).to_be_visible()
    settled(page)
    pulled(page, page.locator('.wide [data-mark="A"]').first, 33)
    expect(page.locator(".count")).to_have_text(f"{6 * 2 * 64 * 768:,} trained")
    page.mouse.up()
    expect(page.get_by_text("rank 64,")).to_be_visible()
    expect(page.locator(".panel")).to_be_hidden()  # a drag is no choice


def test_targets_are_chosen_on_the_matrices(page: Page, block_url: str) -> None:
    visit(page, block_url)
    page.get_by_role("button", name="Choose targets").click()
    page.locator('.wide [data-path$="self.key"]').click()
    expect(page.get_by_text("targets query, value, key, chosen None")).to_be_visible()
    settled(page)
    page.locator('.wide [data-path$="self.query"] [data-mark="W"]').click()
    expect(page.get_by_text("targets value, key, chosen None")).to_be_visible()


def test_merging_shows_what_was_measured(page: Page, block_url: str) -> None:
    visit(page, block_url)
    page.get_by_role("button", name="Merge into the matrices").click()
    expect(page.locator(".merged-words")).to_contain_text("at most 1.2e-07")


@pytest.mark.sampled(3)  # the narrow in the light, the wide in the dark
@pytest.mark.parametrize(
    "page",
    [
        {"viewport": {"width": width, "height": 900}, "color_scheme": theme}
        for width in (390, 1280)
        for theme in ("light", "dark")
    ],
    indirect=True,
)
def test_no_serious_fault_of_accessibility_and_nothing_too_wide(page: Page, block_url: str) -> None:
    visit(page, block_url)
    found = Axe().run(page, context=".stBidiComponent").response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


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
