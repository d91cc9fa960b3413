"""The page that is taken along: opened from the disk, without any network, it plays the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from peft_lab.drawing.trajectory.format import shipped, shipped_names
from peft_lab.models.catalogue import get_model
from peft_lab.takeaway import card


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", shipped_names())
def test_the_page_plays_offline(chromium: Browser, tmp_path: Path, name: str) -> None:
    found = shipped(name)
    file = tmp_path / "run.html"
    file.write_text(card.living_page(found, get_model(found.model.name).shape), "utf-8")
    context = chromium.new_context(viewport={"width": 390, "height": 800}, offline=True)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    last = found.steps[-1]
    expect(page.locator(".run-step")).to_contain_text(f"step {last} of {last}")
    page.get_by_role("button", name="One state back").click()
    expect(page.locator(".run-step")).to_contain_text(f"step {found.steps[-2]} of {last}")
    answer = found.answers[-1].text.strip() if found.answers else ""  # of images there are none
    page.get_by_role("button", name="One state on").click()
    if answer:
        expect(page.locator(".answer.now")).to_contain_text(answer.split("\n")[0].strip())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
    assert asked == [file.as_uri()] and not said
