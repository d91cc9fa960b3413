"""What a person does in the Playground: moves through recorded runs without the server, and opens one to train it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from peft_lab.studies.playground import shipped
from tests.browser.driver import settled, visit

# what is drawn right after a slider was moved, in the same task: no frame and no server came between
_MOVED = """(range, [place, done]) => {
  range.value = place;
  range.dispatchEvent(new Event('input', { bubbles: true }));
  if (done) range.dispatchEvent(new Event('change', { bubbles: true }));
  const host = range.closest('.playground');
  const text = (name) => host.querySelector(name).textContent;
  return {
    rate: text('[data-axis=rate] output'), loss: text('.now-loss'), answer: text('.text'), fields: text('.fields'),
    line: host.querySelector('.mine').getAttribute('d'), trained: text('.trained'), peak: text('.peak'),
    spectrum: host.querySelector('.slot i').style.height, block: host.querySelector('.blocks i').style.cssText,
    moved: text('.full'), snapped: text('.snapped'), run: host.querySelector('.go').getAttribute('href'),
    thumb: Number(range.value),
  };
}"""


@pytest.mark.weights
def test_sliders_move_through_recorded_runs_without_the_server_and_one_of_them_is_trained_here(
    page: Page, app_url: str
) -> None:
    asked: list[Any] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda sent: asked.append(sent)))
    visit(page, f"{app_url}/playground")
    rate, rank, step = (
        page.get_by_role("slider", name=name) for name in ("Learning rate", "Rank", "Training step")
    )
    expect(page.locator(".playground .mine")).to_have_attribute("d", re.compile("^M"))
    settled(page)
    page.on("request", lambda request: asked.append(request.url))
    asked.clear()

    seen: list[dict[str, Any]] = [step.evaluate(_MOVED, [at, True]) for at in (0, 25)]
    for what in ("loss", "answer", "fields", "spectrum", "block"):
        assert seen[0][what] != seen[1][what], what
    assert seen[0]["line"] == seen[1]["line"]
    ends = [rate.evaluate(_MOVED, [at, True]) for at in (0, 1)]
    rates = sorted({run.rate for run in shipped().runs})
    assert [float(end["rate"]) for end in ends] == [rates[0], rates[-1]]
    for what in ("loss", "answer", "line", "moved", "run"):
        assert ends[0][what] != ends[1][what], what
    assert [end["snapped"] for end in ends] == ["", ""]
    # between two recorded runs the page says so, and the slider comes to rest at the nearer one
    between = rate.evaluate(_MOVED, [0.03, False])
    assert between["snapped"] and between["thumb"] == pytest.approx(0.03)
    assert {**between, "snapped": "", "thumb": 0} == {**ends[0], "snapped": "", "thumb": 0}
    assert rate.evaluate(_MOVED, [0.03, True])["thumb"] == 0
    # by keys from one recorded run to the next; a larger rank trains more and needs more memory
    low = rank.evaluate(_MOVED, [0, True])
    rank.press("End")
    high = step.evaluate(_MOVED, [25, True])
    assert int(high["trained"].replace(",", "")) == max(
        run.trained for run in shipped().runs if run.targets == ("q_proj", "v_proj")
    )
    assert high["trained"] != low["trained"] and high["peak"] != low["peak"]
    page.get_by_role("radio", name="all linear maps").check(force=True)
    expect(page.locator(".trained")).not_to_have_text(high["trained"])
    assert asked == []

    settings = page.locator("a.go").get_attribute("href")
    page.get_by_role("link", name=re.compile("^Run it here")).click()
    expect(page.locator("h1")).to_have_text("LoRA")
    settled(page)
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
    assert settings is not None and "target_modules=all-linear" in settings
    assert "target_modules=all-linear" in page.url and "rows=0" in page.url  # what is no default of the page
