"""Two servers of one class behind nginx, with the configuration that compose.yaml uses; learners speak the browser's
protocol. The container images themselves are not built here."""

from __future__ import annotations

import re
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.load.browser import Browser
from peft_lab.classroom import joining
from peft_lab.core import asking
from peft_lab.ui.server import guard
from tests.browser.conftest import ROOT, served
from tests.classroom.conftest import CODE
from tests.classroom.proxied import TEMPLATE, proxied, require_nginx
from tests.conftest import awaited, link
from tests.waits import SECONDS
from tools.ports import free_port

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
    """The proxy's address, those of the servers behind it, and what the proxy writes down."""

    url: str
    servers: list[str]
    log: Path
    stops: list[ExitStack]

    def upstreams(self, part: str) -> list[str]:
        """Which server answered each request for a path that holds ``part``."""
        time.sleep(0.2)
        lines = [line.split() for line in self.log.read_text("utf-8").splitlines()]
        return [line[4] for line in lines if part in line[3]]


@pytest.fixture
def lab(assets_home: Path, tmp_path: Path) -> Iterator[Lab]:
    require_nginx()
    link(home := tmp_path / "home")
    port = free_port()
    environment = {
        asking.CLASS_VARIABLE: CODE,
        guard.METRICS_VARIABLE: TOKEN,
        "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
    }
    with ExitStack() as all_:
        stops = [all_.enter_context(ExitStack()) for _ in range(2)]
        servers = [
            stop.enter_context(served(home, tmp_path / f"{number}.txt", BASE, **environment))
            for number, stop in enumerate(stops)
        ]
        log = all_.enter_context(proxied(servers, BASE, port, tmp_path))
        yield Lab(f"http://127.0.0.1:{port}/{BASE}", servers, log, stops)


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def opened(url: str) -> Browser:
    """A learner with the method page of LoRA open, through the proxy: scripts, WebSocket, first draw."""
    browser = Browser(url, CODE)
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
