"""The running app and a real browser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.driver import CHROMIUM_FLAGS, chromium_path
from tests.conftest import link, missing
from tests.waits import MILLISECONDS, SECONDS
from tools.ports import free_port

Opened = TypeVar("Opened", Page, BrowserContext)
ROOT = Path(__file__).parents[2]
expect.set_options(timeout=MILLISECONDS)


def _await_health(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"the app did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")


@pytest.fixture(scope="session")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The running app's own lab folder: the real weights and data, and runs of this session only."""
    home = tmp_path_factory.mktemp("app-home")
    link(home)
    return home


@contextmanager
def served(
    home: Path, log: Path, base: str = "", script: str = "app.py", **environment: str
) -> Iterator[str]:
    """The app (or another script) with its own lab folder on a free port, as an address; ``base`` is the path that it
    lies under."""
    port = free_port()
    url = f"http://localhost:{port}{base and f'/{base}'}"
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)]
    env = {**os.environ, "PEFT_LAB_HOME": str(home), "STREAMLIT_SERVER_BASE_URL_PATH": base, **environment}
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _await_health(server, url, log)
            yield url
        finally:
            # the group: worker processes of the app must not outlive the session
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
                try:
                    server.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.fixture(scope="session")
def app_url(app_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app, served on a free port for the session."""
    with served(app_home, tmp_path_factory.mktemp("app-log") / "streamlit.log") as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Chromium as installed on this machine."""
    path = chromium_path()
    if path is None:
        missing("no Chromium here: on Debian, apt install chromium fonts-dejavu-core")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        browser.new_context = patient(browser.new_context)  # type: ignore[method-assign]
        browser.new_page = patient(browser.new_page)  # type: ignore[method-assign]
        yield browser
        browser.close()


def patient(make: Callable[..., Opened]) -> Callable[..., Opened]:
    """Let pages wait for what they are told to press as long as for what they show."""

    def made(**options: Any) -> Opened:
        opened = make(**options)
        opened.set_default_timeout(MILLISECONDS)
        return opened

    return made


@pytest.fixture
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh page 1280 px wide. ``@pytest.mark.parametrize("page", [{...}], indirect=True)`` sets other options of
    Playwright's new_context (viewport, color_scheme, ...)."""
    options: dict[str, Any] = {"viewport": {"width": 1280, "height": 1000}, **getattr(request, "param", {})}
    context = chromium.new_context(**options)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    page.on("console", lambda line: errors.append(line.text) if _broken(line) else None)
    yield page
    context.close()
    assert not errors, "the browser met errors:\n" + "\n".join(errors)


#: What is said when a test's own server has been stopped before its page is closed, or a file is not there (which the
#: page's contents tell).
_NO_FAULT = (
    "Failed to load resource",
    "disconnected from server",
    "WebSocket",
    "reaching server endpoint",
    "Is Streamlit still running",
)


def _broken(line: ConsoleMessage) -> bool:
    """Errors of the page's own code."""
    return line.type == "error" and not any(part in line.text for part in _NO_FAULT)
