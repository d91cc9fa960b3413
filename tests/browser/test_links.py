"""A link made on any page, however it was reached, opens that page with its settings for somebody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

import pytest
import zxingcpp
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from peft_lab.interview.write.exercises import exercises
from peft_lab.ui.pages import method_pages, titles
from tests.browser.conftest import served
from tests.browser.driver import by_doors, settled, visit
from tests.browser.test_guard import WEBSOCKET, answer
from tests.conftest import link

SHARED = [name for name in titles() if name not in ("tour", "teach")]
#: Opened by their address: of the methods' pages, which are one function, that with the most settings.
ADDRESSED = [name for name in SHARED if name == "qlora" or name not in method_pages()]
BASE = "lora"  # the folder that the app lies in may be called like a page
NAME = "lab.example"


def made(page: Page) -> str:
    """The link that the page offers, in projector view."""
    page.get_by_role("button", name="Teach with this page").click()
    settled(page)
    page.get_by_text("Open in projector view").click()
    settled(page)
    code = page.get_by_test_id("stPopoverBody").get_by_test_id("stCode")
    expect(code).to_contain_text("projector=on")
    return code.inner_text().strip()


def opened_elsewhere(browser: Browser, address: str) -> Page:
    """The address, as a student opens it."""
    return visit(
        browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 1000}).new_page(),
        address,
    )


def heading(name: str) -> str | re.Pattern[str]:
    if name == "write":  # its title is the exercise's
        return next(iter(exercises().values())).title
    return re.compile("Watch it learn") if name == "home" else titles()[name]


def leads(browser: Browser, address: str, root: str, name: str) -> None:
    """Check that the address is the page's own, and that it opens the page as it was set."""
    assert address.partition("?")[0] == f"{root}/{'' if name == 'home' else name}"
    student = opened_elsewhere(browser, address)
    expect(student.locator("h1")).to_have_text(heading(name))
    expect(student.get_by_test_id("stSidebar")).to_be_hidden()
    if "fixed=" in address:
        expect(student.get_by_text("Set by the teacher:")).to_be_visible()
    student.context.close()


def code_on(page: Page) -> str:
    """What a phone reads off the screen."""
    [found] = zxingcpp.read_barcodes(Image.open(BytesIO(page.screenshot())))
    return found.text


@pytest.mark.parametrize("name", by_doors(ADDRESSED, pytest.mark.further))
def test_a_page_opened_by_its_address_makes_its_link(
    name: str, page: Page, chromium: Browser, app_url: str
) -> None:
    visit(page, f"{app_url}/{'' if name == 'home' else name}")
    address = made(page)
    leads(chromium, address, app_url, name)
    if name == "qlora":
        assert len(address) > 200, "the page's settings are in it"
        check_the_code_on(page, address)


def check_the_code_on(page: Page, address: str) -> None:
    """A phone at the back of the room reads the address off the screen."""
    page.get_by_text("Show a QR code").click()
    settled(page)
    code = page.get_by_role("img", name="QR code of the link")
    code.scroll_into_view_if_needed()
    box = code.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 600, "large enough for a room"
    assert code_on(page) == address


@pytest.fixture(scope="module")
def below_a_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app of its own that lies under a path and answers to another name too."""
    home = tmp_path_factory.mktemp("home")
    link(home)
    with served(home, home / "server.log", BASE, PEFT_LAB_HOSTS=NAME) as url:
        yield url


@pytest.mark.slow
def test_below_a_folder_and_behind_a_proxy_that_hands_on_no_port(
    page: Page, chromium: Browser, below_a_folder: str
) -> None:
    visit(page, f"{below_a_folder}/qlora")
    leads(chromium, made(page), below_a_folder, "qlora")
    stream = f"/{BASE}/_stcore/stream"
    for origin, status in (
        (f"https://{NAME}:8443", 101),
        (f"https://{NAME}", 101),
        ("http://localhost:1", 403),
    ):
        for host in (NAME, f"{NAME}:8501"):
            assert answer(below_a_folder, stream, [host], **WEBSOCKET, Origin=origin)[0] == status
