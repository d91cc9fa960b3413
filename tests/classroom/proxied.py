"""nginx before servers of the app, with the configuration that compose.yaml uses."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.browser.conftest import ROOT
from tests.conftest import missing

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
