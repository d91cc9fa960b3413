"""A class as people meet it: the server as it is started, two learners and a teacher, each in their own browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from peft_lab.classroom import joining
from peft_lab.core import asking
from tests.browser.conftest import served
from tests.classroom.conftest import CODE
from tests.conftest import link

pytestmark = [pytest.mark.slow, pytest.mark.weights, pytest.mark.browser]
QUICK = "/bitfit?model=minilm-l6&task=sentiment&tab=train&steps=2&batch=2&rows=4"


@pytest.fixture(scope="module")
def lab(assets_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A class's address and its folder."""
    home = tmp_path_factory.mktemp("class-home")
    link(home)
    environment = {asking.CLASS_VARIABLE: CODE, asking.LIMITS_VARIABLE: "runs=1,steps=400"}
    with served(home, home / "log.txt", **environment) as url:
        yield url, home


def join(chromium: Browser, url: str, path: str, code: str, name: str) -> Page:
    page = chromium.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.goto(url + path)
    expect(page).to_have_title("Join the class · PEFT Lab")
    page.get_by_label("Code").fill(code)
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Join").click()
    expect(page.locator("h1").first).to_be_visible()
    return page


def trained(page: Page) -> str:
    """Press Train; the new run's name."""
    page.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_url(re.compile(r"[?&]run="))
    return re.search(r"run=([\w.-]+)", page.url).group(1)  # type: ignore[union-attr]


def known_by(page: Page) -> str:
    """The owner that this browser's cookie names; empty without one."""
    found = [each["value"] for each in page.context.cookies() if each["name"] == joining.COOKIE]
    return str(found[0]).split(".")[1] if found else ""


def test_a_browser_is_handed_to_the_next_person(chromium: Browser, lab: tuple[str, Path]) -> None:
    url, _ = lab
    ada = join(chromium, url, "/runs", CODE, "Ada")
    before = known_by(ada)
    other = ada.context.new_page()
    other.goto(f"{url}/compare")
    expect(other.locator("h1").first).to_be_visible()
    ada.get_by_role("button", name="Leave", exact=True).click()
    ada.get_by_role("button", name="Leave for good").click()
    expect(ada).to_have_title("Join the class · PEFT Lab")
    expect(other.locator("h1")).to_have_count(0)
    expect(other.get_by_test_id("stAlert")).to_be_visible()
    assert not known_by(ada)
    ada.goto(f"{url}/runs")
    expect(ada).to_have_title("Join the class · PEFT Lab")
    ada.get_by_label("Code").fill(CODE)
    ada.get_by_role("button", name="Join").click()
    expect(ada.locator("h1").first).to_be_visible()
    assert known_by(ada) and known_by(ada) != before, "somebody new"
    ada.context.close()


@pytest.mark.further
def test_two_learners_and_their_teacher(chromium: Browser, lab: tuple[str, Path]) -> None:
    url, home = lab
    ada = join(chromium, url, QUICK, "blue whale", "Ada")
    assert "steps=2" in ada.url, "the code was asked on the way to the page"
    expect(ada.get_by_text("at most 1 run at a time (0 now), 400 steps each")).to_be_visible()
    run = trained(ada)
    expect(ada.get_by_text("Settings of the next run")).to_be_visible()
    expect(ada.get_by_role("button", name="Train", exact=True)).to_be_visible()
    ada.get_by_role("tab", name="Export").click()
    with ada.expect_download() as waiting:
        ada.get_by_role("button", name="Script", exact=True).click()
    media = waiting.value.url
    assert run in waiting.value.suggested_filename

    # Bob has what Ada could have told him: the run's name, the address of her download
    bob = join(chromium, url, f"/bitfit?run={run}&tab=train", CODE, "Bob")
    expect(bob.get_by_role("button", name="Train", exact=True)).to_be_visible()
    # the address is written anew with a later draw than the one that brought the button
    bob.wait_for_url(lambda address: run not in address)
    assert run not in bob.content()
    assert bob.context.request.get(media).status == 403
    assert ada.context.request.get(media).status == 200
    bob.goto(f"{url}/runs")
    expect(bob.get_by_text("No runs yet.")).to_be_visible()
    ada.goto(f"{url}/runs")
    expect(ada.get_by_text("bitfit", exact=False).first).to_be_visible()
    assert not list((home / "runs").glob("2*")), "nothing of a class lies where a single user's runs do"

    # a file that is only made when it is asked for is made for who asks
    ada.goto(f"{url}/practice")
    ada.get_by_text("Learners and files").click()
    ada.get_by_role("button", name="Files").click()
    with ada.expect_download() as waiting:
        ada.get_by_role("button", name=re.compile("Export Me")).click()
    assert json.loads(Path(waiting.value.path()).read_text("utf-8"))

    # the teacher sees both and ends a run that Ada may not repeat meanwhile
    ada.goto(url + QUICK.replace("steps=2", "steps=400"))
    trained(ada)
    teacher = join(
        chromium, url, "/classroom", json.loads((home / "class/keys.json").read_text())["teacher"], "Grace"
    )
    expect(teacher.get_by_role("heading", name="Your class")).to_be_visible()
    expect(teacher.get_by_role("button", name="Bob")).to_be_visible()
    teacher.get_by_role("button", name="Ada", exact=True).click()
    teacher.get_by_role("button", name="Stop this run").click()
    expect(ada.get_by_text(re.compile("Stopped")).first).to_be_visible()

    bob.goto(f"{url}/classroom")
    expect(bob.get_by_text("Page not found")).to_be_visible()
    assert "Your class" not in bob.content()
    bob.goto(url + QUICK.replace("steps=2", "steps=401"))
    expect(bob.get_by_text("401 steps").first).to_be_visible()
    expect(bob.get_by_role("button", name="Train", exact=True)).to_be_disabled()
    for page in (ada, bob, teacher):
        page.context.close()
