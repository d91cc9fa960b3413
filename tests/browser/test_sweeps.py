"""The Sweeps page as a person uses it: read the best, change the picture, open a run, come back by the address."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from peft_lab.studies.landscape import METRIC
from peft_lab.studies.sweeps import store
from tests.browser.conftest import served
from tests.browser.driver import settled, sticks_out, visit
from tests.conftest import link
from tests.studies.sweeps import made


@pytest.mark.slow
@pytest.mark.weights
def test_a_sweep_is_read_turned_and_its_best_run_opened(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("PEFT_LAB_HOME", str(tmp_path))
        kept = made.kept()
        found = [trial for trial in store.trials(kept.specs) if trial.figures]
        best = max(found, key=lambda trial: trial.figure(METRIC) or 0)
    with served(tmp_path, tmp_path / "server.log") as url:
        visit(page, f"{url}/sweeps")
        expect(page.get_by_text("Best: learning rate 3e-3, r 8")).to_be_visible()
        expect(page.locator(".js-plotly-plot")).to_have_count(1)
        assert page.get_by_text("WebGL").count() == 0
        page.get_by_role("combobox", name="Vertical axis").click()
        page.get_by_role("option", name="r", exact=True).click()
        expect(page.get_by_text("If several settings share a dot")).to_be_visible()
        settled(page)
        assert page.url.endswith("/sweeps?y=r")
        again = page.context.new_page()
        visit(again, f"{page.url}&sweep={kept.id}")
        expect(again.get_by_text("If several settings share a dot")).to_be_visible()
        again.set_viewport_size({"width": 390, "height": 844})
        settled(again)
        assert sticks_out(again) == 0
        first = page.locator("table.figures a").first
        assert first.get_attribute("href") == f"lora?run={best.run}&tab=train"
        first.click()
        expect(page.get_by_role("heading", name="LoRA", exact=True)).to_be_visible()
        settled(page)
        expect(page.get_by_test_id("stMain")).to_contain_text("86.0%")
