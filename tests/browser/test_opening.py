"""The app opens for a new user, small and at once, and talks to nobody but them."""

from __future__ import annotations

import http.client
import re
import sys
import time
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from tests.browser.driver import reach, settled, visit


def test_the_first_page_opens_and_nothing_leaves_the_machine(page: Page, app_url: str) -> None:
    hosts: set[str | None] = set()
    page.context.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    visit(page, app_url)
    assert "PEFT Lab" in page.title()
    assert page.locator("h1").count() == 1
    assert hosts <= {"localhost", None}
    assert errors == []


LARGEST_HOME = 730_000  # bytes before anything is pressed: it was 695,000, which take 3.7 s at 1.5 Mbit/s


def test_home_is_small(page: Page, app_url: str) -> None:
    """An empty page of Streamlit is 2,690 kB; ours goes compressed, with fonts cut down to what the app writes."""
    sizes: list[float] = []
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda done: sizes.append(done["encodedDataLength"]))
    visit(page, app_url)
    page.evaluate("document.fonts.ready.then(() => true)")
    assert 300_000 < sum(sizes) <= LARGEST_HOME


def test_by_tab_the_doors_and_the_first_setting_are_near(page: Page, app_url: str) -> None:
    """Past the navigation, the doors come before the stops of the run; a link leads over a method's figures."""
    visit(page, app_url)
    stops = reach(page, "Skip to main content")
    page.keyboard.press("Enter")
    stops += reach(page, "Learn a method")
    assert stops <= 4 and reach(page, "Plan a fine-tune") == reach(page, "Prepare for an interview") == 1
    visit(page, f"{app_url}/lora")
    stops = reach(page, "Skip to main content")
    page.keyboard.press("Enter")
    stops += reach(page, "Skip to settings")
    page.keyboard.press("Enter")
    settled(page)
    assert stops + reach(page, "Rank r") <= 12


ACKNOWLEDGED = 0.04  # seconds after which Linux acknowledges at the latest


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not run on Windows")
def test_no_answer_waits_for_an_acknowledgement(app_url: str) -> None:
    """Of many, as other work may delay some; all of them took 44 ms where Nagle's algorithm was on."""
    kept = http.client.HTTPConnection(urlsplit(app_url).netloc)
    kept.request("GET", "/", headers={"Accept": "text/html"})
    names = re.findall(r'href="\./(static/js/[\w./-]+\.js)"', kept.getresponse().read().decode())
    took = []
    for name in names[:60]:
        since = time.monotonic()
        kept.request("GET", f"/{name}", headers={"Accept-Encoding": "gzip"})
        assert kept.getresponse().read()
        took.append(time.monotonic() - since)
    assert len(took) == 60 and sorted(took)[15] < ACKNOWLEDGED / 2, took
