"""The Memory page as a person uses it: it comes to rest, a step is scrubbed, a model typed, what is wrong told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import in_address, settled

SMALL = "model=minilm-l6&device=this-machine&batch=2&seq=16"
BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 512, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 5, "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip


def simulated(page: Page) -> Page:
    """Wait until nothing is being simulated any more."""
    expect(page.get_by_role("heading", name="One training step of")).to_be_visible()
    expect(page.get_by_role("slider", name="Moment")).to_be_visible()
    expect(page.get_by_text("Simulating")).to_have_count(0)
    return settled(page)


def typed(page: Page, name: str) -> None:
    """Type a model into its control, as a person does."""
    control = page.get_by_role("combobox", name="Model")
    control.click()
    control.fill(name)
    control.press("Enter")


@pytest.mark.slow
def test_it_comes_to_rest_a_step_is_scrubbed_and_a_folder_is_typed(
    page: Page, app_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny-bert"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BERT), "utf-8")
    page.goto(f"{app_url}/memory?{SMALL}")
    simulated(page)
    # A question that is asked again on every draw would keep the script running every quarter of a second.
    app = page.get_by_test_id("stApp")
    for _ in range(20):
        assert app.get_attribute("data-test-script-state") == "notRunning"
        page.wait_for_timeout(100)
    assert page.get_by_text("does not support past key values").count() == 1

    expect(page.get_by_text("alive, the peak")).to_be_visible()
    page.get_by_role("slider", name="Moment").focus()
    page.keyboard.press("Home")
    expect(page.get_by_text("alive, the peak")).to_have_count(0)
    expect(page.locator("strong", has_text="gradients cleared")).to_be_visible()

    typed(page, str(folder))
    expect(page.get_by_role("heading", name="One training step of tiny-bert")).to_be_visible()
    expect(page.get_by_text("counted and simulated, not trained")).to_be_visible()
    simulated(page)
    in_address(page, "tiny-bert")

    typed(page, "nobody-here/no-such-model")
    wrong = page.get_by_text("'nobody-here/no-such-model' could not be read as a model")
    expect(wrong).to_have_count(1)
    expect(page.get_by_role("heading", name="One training step of tiny-bert")).to_be_visible()

    rows = page.get_by_role("spinbutton", name="Batch size")
    rows.fill("-5")
    rows.press("Enter")
    expect(page.get_by_text("from 1 to 65,536; '-5' is not.")).to_have_count(1)
    rows.fill("3")
    rows.press("Enter")
    simulated(page)
    in_address(page, "batch=3")
    assert page.locator('[data-testid="stException"]').count() == 0
