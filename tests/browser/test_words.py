"""A word of the glossary explains itself where a page uses it first, on every page and from one list."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from peft_lab.interview import glossary
from tests.browser.driver import settled

#: Each marked word, and the middle of its place on the screen.
MARKED = """[...CSS.highlights.get("word")].map(({ startContainer, startOffset, endOffset }) => {
  const range = document.createRange();
  range.setStart(startContainer, startOffset);
  range.setEnd(startContainer, endOffset);
  const box = range.getBoundingClientRect();
  return [range.toString(), box.x + box.width / 2, box.y + box.height / 2];
})"""


@pytest.mark.slow
def test_a_page_explains_each_word_where_it_is_used_first(page: Page, app_url: str) -> None:
    page.goto(f"{app_url}/clinic")
    settled(page)
    page.wait_for_function("CSS.highlights.get('word')?.size > 2")
    meanings = {
        form.lower(): word.meaning for word in glossary.words().values() for form in (word.term, *word.also)
    }
    marked = page.evaluate(MARKED)
    said = [meanings[text.lower()] for text, *_ in marked]
    assert len(said) == len(set(said)), "once each"
    tip = page.locator("#word-tip")
    expect(tip).to_be_hidden()
    _, x, y = marked[0]
    page.mouse.move(x, y)
    expect(tip).to_have_text(said[0])
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
