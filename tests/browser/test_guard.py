"""Who is answered, and what a page may load, asked of the running app with bare sockets."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import served
from tests.browser.driver import visit
from tests.conftest import link
from tests.prose import says
from tests.waits import SECONDS

FOREIGN = ("evil.example", "localhost.evil.example", "203.0.113.7")
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def answer(url: str, path: str, hosts: list[str], **headers: str) -> tuple[int, str]:
    """The status and the rest of what the app answers to a request with these ``Host`` headers."""
    port = int(urlsplit(url).port or 0)
    lines = [f"GET {path} HTTP/1.1", *(f"Host: {host}" for host in hosts)]
    lines += [f"{name}: {value}" for name, value in ({"Connection": "close"} | headers).items()]
    with socket.create_connection(("localhost", port), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        received = b""
        while b"\r\n\r\n" not in received or "Upgrade" not in headers:
            part = connection.recv(65536)
            received += part
            if not part:
                break
    status, _, rest = received.decode("utf-8", "replace").partition("\r\n")
    return int(status.split()[1]), rest


@pytest.mark.parametrize(
    "path", ["/lora/lora", "/q/qlora", "/pages/lora", "/_stcore/x", "/lora/static/js/x.js"]
)
def test_where_no_page_can_be_that_is_said(path: str, app_url: str) -> None:
    """Not a white page: Streamlit's own answer is the app, with scripts that are not there."""
    host = f"localhost:{urlsplit(app_url).port}"
    status, text = answer(app_url, f"{path}?model=x", [host])
    assert status == 404
    assert "text/plain" in text and "text/html" not in text
    assert text.endswith("this address has no page. Open the app's home page and choose a page there.\n")


@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_names_are_refused(host: str, app_url: str) -> None:
    name = host
    host = f"{host}:{urlsplit(app_url).port}"
    for path in ("/", "/_stcore/health", "/_stcore/host-config", "/media/x.csv"):
        status, text = answer(app_url, path, [host])
        assert status == 421
        assert says(text, name, f"PEFT_LAB_HOSTS={name}")
    # as a browser asks whose user was led there: to it, page and WebSocket are one site
    assert answer(app_url, "/_stcore/stream", [host], **WEBSOCKET, Origin=f"http://{host}")[0] == 403


def test_a_page_of_another_site_gets_no_websocket(app_url: str) -> None:
    host = urlsplit(app_url).netloc
    assert answer(app_url, "/_stcore/stream", [host], **WEBSOCKET, Origin="http://evil.example")[0] == 403
    for port in (9999, 80):
        origin = f"http://{host.partition(':')[0]}:{port}"
        assert answer(app_url, "/_stcore/stream", [host], **WEBSOCKET, Origin=origin)[0] == 403


def test_every_answer_says_what_a_page_may_load(app_url: str) -> None:
    own = urlsplit(app_url).netloc
    for path in ("/", "/lora", "/_stcore/health", "/nowhere.js"):
        _, text = answer(app_url, path, [own])
        head = text.partition("\r\n\r\n")[0].lower()
        assert "x-content-type-options: nosniff" in head
        [policy] = [line for line in head.splitlines() if line.startswith("content-security-policy:")]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'self'" in policy
        assert "http:" not in policy
        assert "https:" not in policy
        assert "*" not in policy
        [scripts] = [part for part in policy.split(";") if part.strip().startswith("script-src")]
        assert "unsafe" not in scripts


def test_a_page_cannot_load_from_elsewhere(chromium: Browser, app_url: str) -> None:
    """Whatever found its way into a page: its pictures, scripts, frames and messages do not leave for another site."""
    page = visit(chromium.new_page(), app_url)  # one of its own, as the browser's complaints are expected
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        page.evaluate(_LOADING, f"http://127.0.0.1:{elsewhere.getsockname()[1]}/")
        assert _heard(elsewhere) == b""
    assert page.evaluate("window.ran") is None, "a script that is written into the page does not run"
    page.close()


def _heard(listener: socket.socket) -> bytes:
    """What is said to the listener in some seconds. Chromium connects before it asks what a frame may load."""
    listener.settimeout(1.5)
    heard = b""
    with suppress(TimeoutError):
        while True:
            connection, _ = listener.accept()
            connection.settimeout(1.5)
            with connection, suppress(TimeoutError):
                heard += connection.recv(300)
    return heard


_LOADING = """(elsewhere) => {
  for (const tag of ['img', 'script', 'iframe']) {
    const it = document.createElement(tag);
    it.src = elsewhere;
    document.body.append(it);
  }
  const own = document.createElement('script');
  own.textContent = 'window.ran = true';
  document.body.append(own);
  fetch(elsewhere, { method: 'POST', mode: 'no-cors', body: 'x' }).catch(() => {});
}"""


@pytest.mark.slow
def test_it_ends_in_order_when_asked_to(page: Page, tmp_path: Path) -> None:
    """With a page open in a browser: soon, as a Python program ends, with nothing left behind."""
    home, log = tmp_path / "home", tmp_path / "server.log"
    link(home)
    with served(home, log) as url:
        visit(page, f"{url}/lora")
        port = f"{urlsplit(url).port}"
        [server] = [each for each in psutil.process_iter(["cmdline"]) if port in (each.info["cmdline"] or [])]
        server.terminate()
        server.wait(SECONDS)
    said = log.read_text(encoding="utf-8")
    assert "Traceback" not in said
    assert "leaked" not in said
