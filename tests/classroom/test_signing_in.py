"""Signing in as people do it: a server as it is started, a provider on this machine, two browsers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from peft_lab.classroom import joining
from peft_lab.core import asking
from tests.browser.conftest import served
from tests.classroom import signing
from tests.classroom.conftest import CODE
from tests.classroom.provider import Provider, answering
from tests.classroom.test_two_browsers import QUICK, trained
from tests.conftest import link, missing

pytestmark = [pytest.mark.slow, pytest.mark.weights, pytest.mark.browser]
PEOPLE = {
    "ada-17": {"name": "Ada", "email": "ada@school.example", "email_verified": True},
    "bob-18": {"name": "Bob", "email": "bob@school.example", "email_verified": True},
    "grace-1": {"name": "Grace", "email": "grace@school.example", "email_verified": True},
    "eve-19": {"name": "Eve", "email": "grace@school.example", "email_verified": False},
}


@pytest.fixture(scope="module")
def school(
    assets_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, Provider]]:
    """A class's address, its folder and its provider."""
    if util.find_spec("authlib") is None:
        missing("no Authlib here: pip install 'peft-lab[oidc]'")
    home, user = tmp_path_factory.mktemp("class-home"), tmp_path_factory.mktemp("user")
    link(home)
    with answering(PEOPLE) as provider:
        signing.secrets(user, "http://localhost:{port}", provider.address)
        environment = {
            asking.CLASS_VARIABLE: CODE,
            joining.WHO_MAY_LOG_IN: "@school.example",
            joining.TEACHERS: "grace@school.example",
            "HOME": str(user),
        }
        with served(home, home / "log.txt", **environment) as url:
            yield url, home, provider


def sign_in(page: Page, url: str, path: str, who: str) -> None:
    page.goto(url + path)
    expect(page).to_have_title("Join the class · PEFT Lab")
    page.get_by_role("link", name="Sign in").click()
    expect(page).to_have_title("Choose an account")
    page.get_by_role("link", name=who).click()


def newcomer(chromium: Browser, url: str, path: str, who: str) -> Page:
    page = chromium.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    sign_in(page, url, path, who)
    expect(page.locator("h1").first).to_be_visible()
    return page


@pytest.mark.further
@pytest.mark.rest
def test_two_people_sign_in(chromium: Browser, school: tuple[str, Path, Provider]) -> None:
    url, home, provider = school
    ada = newcomer(chromium, url, QUICK, "ada-17")
    assert "steps=2" in ada.url, "signing in leads on to the page that was asked for"
    run = trained(ada)
    expect(ada.get_by_role("button", name="Train", exact=True)).to_be_visible()
    ada.goto(f"{url}/runs")
    expect(ada.get_by_text("bitfit", exact=False).first).to_be_visible()

    bob = newcomer(chromium, url, "/runs", "bob-18")
    expect(bob.get_by_text("No runs yet.")).to_be_visible()
    owners = [path for path in (home / "class").iterdir() if (path / "who.json").is_file()]
    names = {json.loads((path / "who.json").read_text())["name"]: path for path in owners}
    assert set(names) == {"Ada", "Bob"} and (names["Ada"] / "runs" / run).is_dir()

    # out and in again, in a browser that has nothing of before
    ada.get_by_role("button", name="Sign out").click()
    expect(ada).to_have_title("Join the class · PEFT Lab")
    assert provider.ended == 1
    left = {cookie.get("name") for cookie in ada.context.cookies()}
    assert not left & {joining.COOKIE, "_streamlit_user", "_streamlit_user_tokens"}
    ada.context.close()
    again = newcomer(chromium, url, "/runs", "ada-17")
    expect(again.get_by_text("bitfit", exact=False).first).to_be_visible()

    # whose address nobody verified is nobody, and no teacher; the true Grace is
    eve = chromium.new_context().new_page()
    sign_in(eve, url, "/", "eve-19")
    expect(eve.get_by_text("verified your email address")).to_be_visible()
    assert joining.COOKIE not in {cookie.get("name") for cookie in eve.context.cookies()}
    teacher = newcomer(chromium, url, "/classroom", "grace-1")
    expect(teacher.get_by_role("button", name=re.compile("Ada"))).to_be_visible()

    # cookies of one's own making open nothing: Bob's, signed by somebody else, and Ada's name in Bob's
    claims = {"iss": provider.address, "sub": "ada-17", "iat": 2_000_000_000, **PEOPLE["ada-17"]}
    forged = signing.cookie(claims, "f" * 64, origin=url)
    answer = eve.context.request.get(
        f"{url}/runs", headers={"Cookie": forged, "Accept": "text/html"}, max_redirects=0
    )
    assert answer.status == 303 and "/join" in answer.headers["location"]
    for page in (bob, again, eve, teacher):
        page.context.close()
