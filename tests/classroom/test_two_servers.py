"""Two servers of one class behind nginx, with the configuration that compose.yaml uses: learners that speak the
browser's protocol, and people who sign in. The container images themselves are not built here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from bench.load.browser import Browser as Learner
from peft_lab.classroom import joining
from peft_lab.core import asking
from peft_lab.ui.server import guard
from tests.browser.conftest import ROOT, served
from tests.classroom.conftest import CODE
from tests.classroom.provider import Provider, answering, secrets
from tests.conftest import awaited, link, missing
from tests.waits import SECONDS
from tools.ports import free_port

TEMPLATE = (ROOT / "deploy/nginx.conf.template").read_text("utf-8")


def filled(values: dict[str, str]) -> str:
    """The template as nginx's image fills it in: names of the environment, and no others."""
    return re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], found[0]), TEMPLATE)


def require_nginx() -> str:
    """Where nginx is; the test ends where there is none."""
    nginx = shutil.which("nginx")
    if nginx is None:
        missing("no nginx here: on Debian, apt install nginx")
    assert nginx is not None
    return nginx


@contextmanager
def proxied(servers: Sequence[str], base: str, port: int, folder: Path) -> Iterator[Path]:
    """nginx on a port of this machine, before two servers below a base path; the file of what it answered."""
    nginx, log = require_nginx(), folder / "access.log"
    one, two = (server.split("/")[2].replace("localhost", "127.0.0.1") for server in servers)
    values = {
        "LAB_ONE": one, "LAB_TWO": two, "LISTEN": f"127.0.0.1:{port}", "BASE_PATH": f"/{base}" if base else "",
        "SCHEME": "$scheme", "ACCESS_LOG": str(log),
    }  # fmt: skip
    whole = f"daemon off; pid {folder}/pid; worker_processes 1; events {{}} http {{ {filled(values)} }}"
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        whole = whole.replace("http {", f"http {{ {kind}_temp_path {folder}/{kind};", 1)
    (folder / "nginx.conf").write_text(whole, "utf-8")
    command = [nginx, "-e", f"{folder}/error.log", "-p", str(folder), "-c", f"{folder}/nginx.conf"]
    proxy = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while not log.exists() and time.monotonic() < deadline and proxy.poll() is None:
            time.sleep(0.1)
        assert proxy.poll() is None, (folder / "error.log").read_text("utf-8")
        yield log
    finally:
        proxy.terminate()
        proxy.wait()


pytestmark = [pytest.mark.slow, pytest.mark.weights]
BASE, TOKEN = "teach/lab", "a-token-of-this-test"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def test_compose_gives_the_template_all_that_it_asks_for() -> None:
    given = COMPOSE["services"]["proxy"]["environment"]
    assert set(re.findall(r"\$\{(\w+)\}", TEMPLATE)) == given.keys()
    servers = [name for name, service in COMPOSE["services"].items() if "healthcheck" in service]
    assert [given[name].partition(":")[0] for name in ("LAB_ONE", "LAB_TWO")] == servers == ["one", "two"]


def test_compose_starts_the_servers_with_options_that_there_are() -> None:
    from typer.testing import CliRunner

    from peft_lab import cli

    said = re.sub(
        r"\x1b\[[0-9;]*m", "", CliRunner().invoke(cli.app, ["serve", "--help"], terminal_width=200).stdout
    )
    asked = re.findall(r"--[a-z-]+", COMPOSE["services"]["one"]["command"])
    assert len(asked) > 4 and all(option in said for option in asked)


def test_compose_hands_the_servers_all_that_signing_in_needs() -> None:
    server = COMPOSE["services"]["one"]
    assert server == COMPOSE["services"]["two"]
    assert {joining.WHO_MAY_LOG_IN, joining.TEACHERS} <= server["environment"].keys()
    assert "oidc" in server["build"]["args"]["EXTRAS"].split(",")
    (mounted,) = server["secrets"]
    default = re.fullmatch(r"\$\{\w+:-\./(.+)\}", COMPOSE["secrets"][mounted["source"]]["file"])
    assert default is not None and tomllib.loads((ROOT / default[1]).read_text("utf-8")) == {}
    image = (ROOT / "Dockerfile").read_text("utf-8")
    folder = re.findall(r"^WORKDIR (.+)$", image, re.M)[-1]
    assert mounted["target"] == f"{folder}/.streamlit/secrets.toml"
    assert "COPY --chown=learner . ." in image
    assert ".streamlit/secrets.toml" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()


@dataclass
class Lab:
    """The proxy's address, those of the servers behind it, what the proxy writes down, and the class's folder."""

    url: str
    servers: list[str]
    log: Path
    stops: list[ExitStack]
    home: Path

    def upstreams(self, part: str) -> list[str]:
        """Which server answered each request for a path that holds ``part``."""
        time.sleep(0.2)
        lines = [line.split() for line in self.log.read_text("utf-8").splitlines()]
        return [line[4] for line in lines if part in line[3]]


@contextmanager
def behind_nginx(folder: Path, port: int, **environment: str) -> Iterator[Lab]:
    """Two servers of a class below a path of nginx on a port."""
    link(home := folder / "home")
    environment |= {asking.CLASS_VARIABLE: CODE, "STREAMLIT_SERVER_ADDRESS": "127.0.0.1"}
    with ExitStack() as all_:
        stops = [all_.enter_context(ExitStack()) for _ in range(2)]
        servers = [
            stop.enter_context(served(home, folder / f"{number}.txt", BASE, **environment))
            for number, stop in enumerate(stops)
        ]
        log = all_.enter_context(proxied(servers, BASE, port, folder))
        yield Lab(f"http://127.0.0.1:{port}/{BASE}", servers, log, stops, home)


@pytest.fixture
def lab(assets_home: Path, tmp_path: Path) -> Iterator[Lab]:
    require_nginx()
    with behind_nginx(tmp_path, free_port(), **{guard.METRICS_VARIABLE: TOKEN}) as found:
        yield found


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def opened(url: str) -> Learner:
    """A learner with the method page of LoRA open, through the proxy: scripts, WebSocket, first draw."""
    browser = Learner(url, CODE)
    browser.join()
    browser.load("lora")
    await browser.open("lora", "model=minilm-l6")
    await browser.answered()
    return browser


def test_a_class_behind_nginx(lab: Lab) -> None:
    assert status(f"{lab.url}/healthz") == 200
    assert status(f"{lab.url}/metrics", Authorization=f"Bearer {TOKEN}") == 404
    for server in lab.servers:
        assert status(f"{server}/metrics", Authorization=f"Bearer {TOKEN}") == 200
        assert status(f"{server}/metrics") == 403

    async def work() -> None:
        learners = [await opened(lab.url) for _ in range(4)]
        for one in learners:
            await one.move(
                slider := next(iter(one.sliders.values())),
                slider.options[-1] if slider.options else slider.max,
            )
            await one.answered()
            assert one.troubles == []
        # one after the other: a learner's scripts and WebSocket are answered by one server
        await learners[0].close()
        before = len(lab.upstreams("/static/"))
        learners[0].load("lora")
        assert len(set(lab.upstreams("/static/")[before:])) == 1
        for one in learners[1:]:
            await one.close()

        # the server that this learner was with ends: the other takes over, and knows who it is
        used = lab.upstreams("/static/")[-1]
        number = next(at for at, url in enumerate(lab.servers) if used.split(":")[1] in url)
        lab.stops[number].close()
        assert learners[0].load("lora") > 0, "still joined"
        await learners[0].open("lora", "model=minilm-l6")
        await learners[0].answered()
        assert learners[0].troubles == []
        assert lab.upstreams("/static/")[-1] != used
        await learners[0].close()

    awaited(work())
    assert len({each for each in lab.upstreams("/_stcore/stream") if "," not in each}) == 2, (
        "both servers are used"
    )


PEOPLE = {
    "ada-17": {"name": "Ada", "email": "ada@school.example", "email_verified": True},
    "bob-18": {"name": "Bob", "email": "bob@school.example", "email_verified": True},
    "grace-1": {"name": "Grace", "email": "grace@school.example", "email_verified": True},
    "eve-19": {"name": "Eve", "email": "grace@school.example", "email_verified": False},
}


@pytest.fixture
def signed(assets_home: Path, tmp_path: Path) -> Iterator[tuple[Lab, Provider]]:
    """A class that people join by signing in at a provider."""
    require_nginx()
    if util.find_spec("authlib") is None:
        missing("no Authlib here: pip install 'peft-lab[oidc]'")
    port, user = free_port(), tmp_path / "user"
    environment = {
        joining.WHO_MAY_LOG_IN: "@school.example",
        joining.TEACHERS: "grace@school.example",
        "HOME": str(user),
    }
    with answering(PEOPLE) as provider:
        secrets(user, f"http://127.0.0.1:{port}/{BASE}", provider.address)
        with behind_nginx(tmp_path, port, **environment) as found:
            yield found, provider


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


@pytest.mark.browser
@pytest.mark.further
def test_people_sign_in_below_a_path_of_a_proxy(chromium: Browser, signed: tuple[Lab, Provider]) -> None:
    school, provider = signed
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
    assert again.url.startswith(f"{school.url}/join") and provider.ended == 1
    left = {cookie.get("name") for cookie in again.context.cookies()}
    assert not left & {joining.COOKIE, "_streamlit_user", "_streamlit_user_tokens"}
    for page in (ada, bob, again, teacher, eve):
        page.context.close()
