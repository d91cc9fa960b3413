"""The editor of Write it in a real browser: by the keyboard alone, its results, the line that raised, and axe."""

from __future__ import annotations

from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from peft_lab.interview.write.exercises import exercise
from tests.browser.driver import settled, sticks_out, visit
from tests.browser.test_accessibility import severe

NAME = "lora-forward"


def write(page: Page, program: str) -> None:
    """Replace the program, run it by Ctrl-Enter, and wait until its results are drawn."""
    editor = page.get_by_role("textbox", name="Your program")
    editor.press("Control+a")
    page.keyboard.insert_text(program)
    before = page.locator(".st-key-write-counts").all_inner_texts()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".st-key-write-counts")).not_to_have_text(before[0] if before else "")


@pytest.mark.slow
def test_a_program_is_written_run_and_kept_by_keyboard(page: Page, app_url: str) -> None:
    one = exercise(NAME)
    visit(page, f"{app_url}/write?id={NAME}")
    editor = page.get_by_role("textbox", name="Your program")
    expect(editor).to_be_visible()

    # Tab indents; after Escape it leaves the editor, for the button that runs the program
    editor.press("Control+End")
    editor.press("Tab")
    expect(editor).to_be_focused()
    editor.press("Escape")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Run the tests")).to_be_focused()

    lines = one.solution.rstrip().splitlines()
    at = max(number for number, line in enumerate(lines) if line.strip().startswith("return"))
    lines[at] = lines[at].replace("return", "return missing *")
    write(page, "\n".join(lines))
    marked = page.locator(".cm-line.raised")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text("missing")

    write(page, one.mistaken(one.mistakes[0]))
    expect(page.locator(".st-key-write-reason")).to_contain_text(one.mistakes[0].sentence[:12])
    expect(marked).to_have_count(0)
    settled(page)
    assert severe(page) == []

    expect(page.locator(".kept")).to_have_text("saved")
    page.reload()
    settled(page)
    expect(page.get_by_role("textbox", name="Your program")).to_contain_text(
        one.mistakes[0].code.split()[1][:8]
    )
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator(".kept")).to_have_text("saved")
    page.set_viewport_size({"width": 390, "height": 844})
    settled(page)
    assert sticks_out(page) == 0
    tops = [page.locator(f".st-key-write-{part}").bounding_box() for part in ("task", "middle", "results")]
    assert all(one and other and one["y"] < other["y"] for one, other in pairwise(tops))


@pytest.mark.further
def test_where_the_editor_cannot_be_loaded_there_is_a_plain_field(page: Page, app_url: str) -> None:
    page.route("**/codemirror.*.js", lambda route: route.abort())
    visit(page, f"{app_url}/write?id={NAME}")
    expect(page.locator("textarea[aria-label='Your program']")).to_have_value(exercise(NAME).stub)
