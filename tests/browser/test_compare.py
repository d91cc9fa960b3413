"""A small comparison as a person makes it: start, stop, go on, read, save."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import served
from tests.browser.driver import settled, visit
from tests.conftest import link
from tests.waits import SECONDS, until

SMALL = "model=minilm-l6&methods=lora,bitfit,prefix&steps=3&seeds=2&batch=2&rows=8"


def begin(page: Page) -> Locator:
    """Start the comparison of the address; returns its button Stop (Streamlit has a Stop of its own)."""
    if not page.get_by_role("button", name="Compare", exact=True).is_visible():
        page.get_by_text("New comparison").click()  # closed where one has shipped
        settled(page)
    compare, stop = (
        page.get_by_role("button", name="Compare", exact=True),
        page.locator(".st-key-study-stop button"),
    )
    compare.click()
    try:
        expect(stop).to_be_visible()
    except (
        AssertionError
    ):  # on busy cores a page that was drawn anew has let a press go: as a person, once more
        compare.click()
    return stop


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.weights
def test_a_comparison_is_stopped_goes_on_and_is_saved(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/compare?{SMALL}")
    stop = begin(page)
    stop.click()
    go_on = page.get_by_role("button", name="Continue")
    expect(go_on).to_be_visible()
    go_on.click()
    expect(page.get_by_role("heading", name="Findings")).to_be_visible()
    expect(stop).to_be_hidden()
    settled(page)
    page.get_by_text("Every figure of every method").click()
    expect(page.get_by_text("Does not apply: Prefix Tuning")).to_be_visible()
    table = page.locator("table.figures", has_text="Peak memory")
    expect(table.locator("tbody tr")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the table (CSV)").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert {row["method"]: bool(row["metric_mean"]) for row in rows} == {
        "lora": True,
        "bitfit": True,
        "prefix": False,
    }
    figure = page.locator(".js-plotly-plot").first
    figure.hover()
    with page.expect_download() as image:
        figure.locator(".modebar-btn").first.click()
    drawn = Path(image.value.path()).read_text("utf-8")
    assert drawn.lstrip().startswith("<svg") and "LoRA" in drawn


def killed(url: str) -> None:
    """kill -9 for the app behind an address, and nothing for what it had started."""
    port = url.rpartition(":")[2]
    (server,) = (child for child in psutil.Process().children() if port in child.cmdline())
    server.kill()
    server.wait(SECONDS)


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.further
@pytest.mark.rest
def test_a_comparison_outlives_the_app(page: Page, tmp_path: Path) -> None:
    """The app is killed in the middle of the second run; started again, it goes on with that one."""
    home = tmp_path / "home"
    link(home)

    def ended() -> dict[str, float]:
        """When each run that is done wrote its record, which comes before the event that ends it."""
        done = [one.parent for one in home.glob("runs/*/events.jsonl") if '"type": "done"' in one.read_text()]
        return {folder.name: (folder / "record.json").stat().st_mtime for folder in done}

    with served(home, tmp_path / "first.log") as url:
        visit(page, f"{url}/compare?{SMALL.replace('steps=3', 'steps=25')}")
        begin(page)
        until(ended)
        killed(url)
        done = ended()
        assert len(done) == 1
    with served(home, tmp_path / "second.log") as url:
        visit(page, f"{url}/compare")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator(".st-key-study-stop button")).to_be_hidden()
        expect(page.locator("table.figures", has_text="Peak memory").locator("tbody tr")).to_have_count(2)
        until(lambda: len(ended()) == 4)
    kept = ended()
    finished = [
        name
        for name in kept
        if json.loads((home / "runs" / name / "record.json").read_text())["status"] == "done"
    ]
    assert len(finished) == 4, "two methods, two seeds"
    assert all(kept[name] == when for name, when in done.items()), "what was finished is not repeated"
