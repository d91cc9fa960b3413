"""Every page opens by its own address, as the first thing that a server is ever asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from peft_lab.ui import pages
from peft_lab.ui.pages import method_pages, titles
from tests.browser.conftest import served
from tests.browser.driver import by_doors, visit

# of the methods' pages, which are one and the same function, the first
PAGES = sorted(set(titles()) - set(sorted(method_pages())[1:]))
# Every text that ever stands in the navigation.
_NOTE_ENTRIES = """
  window.entries = [];
  new MutationObserver(() => {
    for (const link of document.querySelectorAll('[data-testid="stSidebarNavLink"]'))
      if (link.innerText && !window.entries.includes(link.innerText)) window.entries.push(link.innerText);
  }).observe(document, { childList: true, subtree: true, characterData: true });
"""


@pytest.mark.parametrize("name", by_doors(PAGES, pytest.mark.further))  # a server for each
def test_a_page_opens_on_a_cold_server(name: str, page: Page, app_home: Path, tmp_path: Path) -> None:
    address = "" if name == "home" else name
    page.add_init_script(_NOTE_ENTRIES)
    with served(app_home, tmp_path / "log") as url:
        visit(page, f"{url}/{address}")
        assert page.locator("h1").count() == 1
        assert page.get_by_test_id("stSidebarNav").get_by_role("group", name="Methods").count() == 1
        # at no moment the list of files that Streamlit would make up by itself
        behind = pages.doors().get(pages.door_of(name), ())
        assert set(page.evaluate("window.entries")) == {
            titles()[other] for other in behind if other in titles()
        }
