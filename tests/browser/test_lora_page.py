"""What a person does on a method's page: move, read, train, stop, compare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from peft_lab.ui import theme
from tests.browser.driver import in_address, settled, stop_button, unfold, visit

pytestmark = pytest.mark.weights


def trained(page: Page, figure: int) -> str:
    """Wait for a count, which comes by itself once it is there; as it is shown."""
    card = page.get_by_test_id("stMetric").filter(has_text="Trainable parameters")
    expect(card.get_by_test_id("stMetricValue")).to_have_text(f"{figure:,}")
    return f"{figure:,}"


def train(page: Page) -> None:
    # without a GPU the moving block takes as much of the processor as the training
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_text(re.compile("Starting|Training|Trained|Done|Queued")).first).to_be_visible()


def status(page: Page, word: str) -> None:
    expect(page.locator("strong", has_text=re.compile(f"^{word}$"))).to_be_visible()


def the_block_follows(page: Page) -> None:
    """While the run goes on, and with nothing touched, the drawing is the run: its curve grows, its state moves on."""
    expect(page.locator(".run-title", has_text="Your run").first).to_be_visible()
    line = page.locator(".curve-line").first
    expect(line).to_have_attribute("d", re.compile("L"))
    before = (line.get_attribute("d") or "").count("L")
    expect(line).to_have_attribute("d", re.compile(f"^M[^L]*(L[^L]*){{{before + 1},}}$"))
    state = page.get_by_role("slider", name="Step", exact=True)
    expect(state).to_have_attribute("aria-valuetext", re.compile("^step [1-9]"))
    expect(stop_button(page)).to_be_visible()  # all of that before it has ended


def of_square_maps(rank: int) -> int:
    """A, B and DoRA's magnitudes on q and o of SmolLM2-135M: 30 layers, 576 wide."""
    return 30 * 2 * (rank * (576 + 576) + 576)


def test_the_rank_changes_all_that_is_drawn_and_survives_a_change_of_page(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/lora?tab=inside&part=parameters&target_modules=q_proj,o_proj&use_dora=true")
    unfold(page)
    trained(page, of_square_maps(8))
    drawing = page.locator(".wide svg").inner_html()
    page.get_by_role("slider", name="Rank r").first.focus()
    page.keyboard.press("ArrowRight")
    shown = trained(page, of_square_maps(16))
    settled(page)
    assert page.locator(".wide svg").inner_html() != drawing
    in_address(page, "r=16")
    assert page.get_by_text(f"the count and the formula both give {shown}").count() == 1
    page.get_by_role("link", name="IA³").click()
    expect(page.locator("h1")).to_have_text("IA³")
    page.get_by_role("link", name="LoRA", exact=True).click()
    expect(page.locator("h1")).to_have_text("LoRA")
    settled(page)
    trained(page, of_square_maps(16))
    for part in ("r=16", "use_dora=true", "q_proj"):
        in_address(page, part)


@pytest.mark.further
@pytest.mark.slow
def test_a_run_trains_to_the_end_and_base_and_tuned_answers_differ(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/lora?tab=train&steps=20&rows=8")
    train(page)
    the_block_follows(page)
    status(page, "Done")
    settled(page)
    assert page.locator(".js-plotly-plot .scatterlayer .trace").count() == 1
    cells = (
        page.locator("table.figures", has=page.get_by_text("Tuned", exact=True))
        .last.locator("tbody tr")
        .all_inner_texts()
    )
    said = dict(line.split("\t", 1) for line in cells)
    assert said["Base"] != said["Tuned"]
    assert '"item"' in said["Tuned"]
    page.get_by_role("tab", name="Inside").click()
    settled(page)
    expect(page.get_by_role("heading", name="Merged, and unmerged again")).to_be_visible()
    page.get_by_role("tab", name="Export").click()
    settled(page)
    begins = {"Script": b'"""', "Notebook": b"{", "Adapter": b"PK", "Page": b"<!doctype html>"}
    for name, start in begins.items():
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name, exact=True).click()
        content = Path(waiting.value.path()).read_bytes()
        assert content.lower().startswith(start.lower()), name
        assert theme.CSS.encode() not in content, "a file to take along is not dressed as a page of the app"


def test_a_part_that_is_clicked_shows_its_numbers_as_a_picture(page: Page, app_url: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    visit(page, f"{app_url}/lora")  # its step is simulated meanwhile
    trained(page, 460_800)
    page.locator('[data-path$="q_proj"] [data-mark="W"]').locator("visible=true").click()
    panel = page.locator(".panel")
    expect(panel).to_contain_text("8 × 576")  # A's shape
    picture = panel.get_by_role("img", name=re.compile("^A in block [0-9]+, step 60, up to"))
    expect(picture).to_be_visible()
    at_the_end = picture.evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("slider", name="Step", exact=True).focus()
    page.keyboard.press("Home")
    before = panel.get_by_role("img", name=re.compile("^A in block [0-9]+, step 0, up to"))
    expect(before).to_be_visible()
    assert before.evaluate("canvas => canvas.toDataURL()") != at_the_end
    of_b = panel.get_by_role("img", name=re.compile("^B in block [0-9]+, step 0, up to"))
    nothing = """canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
      .every((value, index) => index % 4 < 3 || value === 0)"""
    assert of_b.evaluate(nothing), "B begins as zeros: nothing is painted"
