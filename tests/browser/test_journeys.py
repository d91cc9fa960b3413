"""Five people and what each sees on the way to what they came for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from peft_lab.runs.spec import RunRequest
from tests.browser.driver import choose_page, in_address, settled, visit
from tests.ui.test_try_it import ended

STILL = {"reduced_motion": "reduce"}
pytestmark = [pytest.mark.further, pytest.mark.parametrize("page", [STILL], indirect=True)]


def metric(page: Page, label: str, value: str) -> None:
    card = page.get_by_test_id("stMetric").filter(has_text=label)
    expect(card.get_by_test_id("stMetricValue")).to_have_text(value)


@pytest.mark.weights
def test_a_student_sees_a_model_learn_and_what_rank_changes(page: Page, app_url: str) -> None:
    visit(page, app_url)
    expect(page.locator(".row.lit .at b")).to_have_text("Step 10")
    expect(page.locator(".row.lit .text .w").first).to_be_visible()  # 4 of 5 fields
    page.get_by_role("slider", name="Training step").press("End")
    expect(page.locator(".row.lit .fields")).to_have_text("right")
    choose_page(page, "lora")
    metric(page, "Trainable parameters", "460,800")
    page.get_by_role("tab", name="Train").click()
    settled(page)
    expect(page.locator(".sample .answer")).to_have_count(3)  # a recorded run, before one's own
    expect(page.locator(".sample .answer").last).to_contain_text("right")
    page.get_by_role("slider", name="Rank r").first.focus()
    page.keyboard.press("ArrowRight")
    metric(page, "Trainable parameters", "921,600")  # twice the rank
    in_address(page, "r=16")
    choose_page(page, "playground")
    page.get_by_role("slider", name="Rank", exact=True).press("End")
    expect(page.locator(".trained")).to_have_text("3,686,400")  # eight times rank 8


def test_an_interviewee_guesses_before_a_verdict_and_sees_the_answer_after_trying(
    page: Page, app_url: str
) -> None:
    visit(page, app_url)
    page.get_by_role("link", name="Prepare for an interview").click()
    expect(page.get_by_role("heading", name="Cards and mock interview", level=1)).to_be_visible()
    settled(page)
    verdict = page.get_by_text("The claim is ")
    choose_page(page, "myths")
    expect(page.get_by_role("radiogroup", name="Your guess")).to_be_visible()
    expect(verdict).to_have_count(0)
    page.get_by_role("radiogroup", name="Your guess").get_by_text("wrong").click()
    page.get_by_role("button", name="Check my guess").click()
    expect(verdict).to_be_visible()
    choose_page(page, "clinic")
    expect(page.get_by_role("heading", name="Debug clinic", level=1)).to_be_visible()
    settled(page)
    assert page.get_by_test_id("stException").count() == 0


def test_a_teacher_puts_a_page_on_a_path_and_projects_it(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/lora?model=gpt2&r=16")
    page.get_by_role("button", name="Teach with this page").click()
    page.get_by_role("button", name="Add to my path").click()
    page.get_by_role("link", name="Open my path").click()
    expect(page.get_by_role("heading", name="For teachers", level=1)).to_be_visible()
    page.get_by_test_id("stMain").get_by_text("1. LoRA").click()
    expect(page.get_by_text("Rank r = 16 (locked)")).to_be_visible()  # what the stop sets
    page.get_by_role("button", name="Projector view").click()
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    page.get_by_role("button", name="Leave projector view").click()
    expect(page.get_by_test_id("stSidebar")).to_be_visible()


def test_an_engineer_reads_one_verdict_on_three_pages_and_takes_the_files(page: Page, app_url: str) -> None:
    situation = "model=gpt2&gpu=rtx-4090&rows=1000&row_tokens=64&seq=64"
    visit(page, f"{app_url}/plan?{situation}")
    files = page.get_by_role("button", name="Get the files")
    expect(files).to_be_enabled()
    heading = page.get_by_role("heading", level=2).first
    method = heading.inner_text().partition(" on ")[0]
    assert method in ("LoRA", "Full fine-tuning", "QLoRA")
    with page.expect_download() as taken:
        files.click()
    assert taken.value.suggested_filename.endswith(".zip")
    steps = page.locator(".st-key-plan-steps").get_by_role("link")
    steps.nth(0).click()
    expect(page.get_by_role("heading", name=method, exact=True, level=2)).to_be_visible()
    in_address(page, "model=gpt2")
    steps.nth(1).click()
    settled(page)
    in_address(page, "model=gpt2")


def test_who_returns_finds_the_last_run_with_its_scores(
    page: Page, app_url: str, app_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(app_home))
    made = ended(RunRequest("minilm-l6", "lora", "sentiment", {"r": 4}, steps=2), 0.75)
    visit(page, app_url)
    choose_page(page, "runs")
    page.get_by_role("button", name=re.compile("^20")).first.click()
    expect(page.get_by_test_id("stMain")).to_contain_text(made.id)
    page.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).click()
    in_address(page, f"run={made.id}")
    metric(page, "Trainable parameters", "36,864")  # at the run's rank, half the default
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_test_id("stMain")).to_contain_text("75.0%")


def test_who_returns_finds_settings_and_judged_claims_again(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/myths?claim=lora-share")
    page.get_by_role("radiogroup", name="Your guess").get_by_text("wrong").click()
    page.get_by_role("button", name="Check my guess").click()
    expect(page.get_by_text("The claim is ")).to_be_visible()
    visit(page, f"{app_url}/lora?model=gpt2&r=16")
    choose_page(page, "memory")
    settled(page)
    page.go_back()
    in_address(page, "r=16")
    settled(page)
    visit(page, f"{app_url}/myths")  # a new session of the same learner
    expect(page.get_by_text(re.compile(r"[1-9]\d* of \d+ judged")).first).to_be_visible()
