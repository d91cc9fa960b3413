"""Signing in where a class lies below a path of a proxy, on two servers: what the cookies, redirects and the provider
say of the path has to be the proxy's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from peft_lab.classroom import joining
from peft_lab.core import asking
from tests.browser.conftest import served
from tests.classroom import signing
from tests.classroom.conftest import CODE
from tests.classroom.provider import Provider, answering
from tests.classroom.proxied import proxied, require_nginx
from tests.classroom.test_signing_in import PEOPLE, newcomer, sign_in
from tests.conftest import link, missing
from tools.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.weights, pytest.mark.browser]
BASE = "teach/lab"


@dataclass(frozen=True)
class School:
    """The class's address at the proxy, those of the servers behind it, its folder and its provider."""

    url: str
    servers: list[str]
    home: Path
    provider: Provider


@pytest.fixture
def school(assets_home: Path, tmp_path: Path) -> Iterator[School]:
    require_nginx()
    if util.find_spec("authlib") is None:
        missing("no Authlib here: pip install 'peft-lab[oidc]'")
    link(home := tmp_path / "home")
    port = free_port()
    url = f"http://127.0.0.1:{port}/{BASE}"
    with ExitStack() as stack:
        provider = stack.enter_context(answering(PEOPLE))
        signing.secrets(tmp_path / "user", url, provider.address)
        environment = {
            asking.CLASS_VARIABLE: CODE,
            joining.WHO_MAY_LOG_IN: "@school.example",
            joining.TEACHERS: "grace@school.example",
            "HOME": str(tmp_path / "user"),
            "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
        }
        servers = [
            stack.enter_context(served(home, tmp_path / f"{number}.txt", BASE, **environment))
            for number in range(2)
        ]
        stack.enter_context(proxied(servers, BASE, port, tmp_path))
        yield School(url, servers, home, provider)


@pytest.mark.further
def test_people_sign_in_below_a_path_of_a_proxy(chromium: Browser, school: School) -> None:
    ada = newcomer(chromium, school.url, "/lora?r=4&model=minilm-l6", "ada-17")
    assert ada.url.startswith(f"{school.url}/lora?") and "r=4" in ada.url
    cookies = {cookie.get("name"): cookie for cookie in ada.context.cookies()}
    paths = {str(cookies[name].get("path")).rstrip("/") for name in (joining.COOKIE, "_streamlit_user")}
    assert paths == {f"/{BASE}"}, "no other app of this proxy is sent them"
    # either server knows her by either cookie, whichever of them she signed in at
    for name, status in ((joining.COOKIE, 200), ("_streamlit_user", 303)):
        mark = f"{name}={cookies[name].get('value')}"
        for server in school.servers:
            answer = ada.context.request.get(
                f"{server}/lora", headers={"Cookie": mark, "Accept": "text/html"}, max_redirects=0
            )
            assert answer.status == status and "/join" not in answer.headers.get("location", "")

    # somebody else is somebody else, and who comes again the same
    bob = newcomer(chromium, school.url, "/runs", "bob-18")
    expect(bob.get_by_text("No runs yet.")).to_be_visible()
    again = newcomer(chromium, school.url, "/", "ada-17")
    names = sorted(
        json.loads(file.read_text("utf-8"))["name"] for file in school.home.glob("class/*/who.json")
    )
    assert names == ["Ada", "Bob"]
    teacher = newcomer(chromium, school.url, "/classroom", "grace-1")
    expect(teacher.get_by_role("button", name=re.compile("Ada"))).to_be_visible()
    eve = chromium.new_context().new_page()
    sign_in(eve, school.url, "/", "eve-19")
    expect(eve.get_by_text("verified your email address")).to_be_visible()

    # out again: back at this app's door, not at the proxy's first page
    again.get_by_role("button", name="Sign out").click()
    expect(again).to_have_title("Join the class · PEFT Lab")
    assert again.url.startswith(f"{school.url}/join") and school.provider.ended == 1
    left = {cookie.get("name") for cookie in again.context.cookies()}
    assert not left & {joining.COOKIE, "_streamlit_user", "_streamlit_user_tokens"}
    for page in (ada, bob, again, teacher, eve):
        page.context.close()
