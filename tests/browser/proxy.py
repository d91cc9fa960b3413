"""A reverse proxy as small as one can be: it ends TLS and hands everything on as it came."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import missing


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """One for ``name``, signed by itself."""
    if shutil.which("openssl") is None:
        missing("no openssl here: on Debian, apt install openssl")
    cert, key = folder / "cert.pem", folder / "key.pem"
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(cert), "-subj", f"/CN={name}"]
    subprocess.run(["openssl", "req", *options, *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


@contextmanager
def proxied(target: int, context: ssl.SSLContext) -> Iterator[int]:
    """The port at which https reaches what answers http at ``localhost:target``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, target, context), daemon=True).start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, target: int, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            raw, _ = listener.accept()
            threading.Thread(target=_serve, args=(raw, target, context), daemon=True).start()


def _serve(raw: socket.socket, target: int, context: ssl.SSLContext) -> None:
    with (
        suppress(OSError),
        context.wrap_socket(raw, server_side=True) as outside,
        socket.create_connection(("localhost", target)) as inside,
    ):
        back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
        back.start()
        _pump(outside, inside)
        back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
