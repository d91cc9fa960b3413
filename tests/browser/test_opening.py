"""The app opens for a new user, and talks to nobody but them."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import Page

from tests.browser.driver import visit


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


LARGEST_HOME = 700_000  # bytes before anything is pressed: 3.7 s at 1.5 Mbit/s


def test_home_is_small(page: Page, app_url: str) -> None:
    """An empty page of Streamlit is 2,690 kB; ours goes compressed, with fonts cut down to what the app writes."""
    sizes: list[float] = []
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda done: sizes.append(done["encodedDataLength"]))
    visit(page, app_url)
    page.evaluate("document.fonts.ready.then(() => true)")
    assert 300_000 < sum(sizes) <= LARGEST_HOME
