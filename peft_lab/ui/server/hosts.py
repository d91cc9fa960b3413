"""The names that the app answers to.

A page on another site can make its own name point at this machine (DNS rebinding); the browser then lets that page
read everything here, as both seem to be one site. What gives it away is the name that the browser asks for.
A page of another port on this machine is another site, too; the ``Origin`` that its browser states gives it away.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time

import psutil
import streamlit as st
from starlette.datastructures import Headers

VARIABLE = "PEFT_LAB_HOSTS"
_HEADER = re.compile(
    r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)(?::(?P<port>\d{1,5}))?", re.ASCII
)
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LONGEST = 260  # a name of 253 characters, a colon and a port
_FRESH_SECONDS = 5.0  # a laptop changes networks while the app runs


def root() -> str:
    """Return the path that the app lies under, with a slash at both ends: ``/``, or ``/lab/``."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}/" if base else "/"


def below(root: str, path: str) -> str:
    """Return a request's path from the app's root on, without slashes at its ends."""
    return f"/{path.strip('/')}/".removeprefix(root).strip("/")


def name_of(header: str) -> str | None:
    """Return the name or address in a ``Host`` header: small letters, no port, no brackets; ``None`` without one."""
    found = _HEADER.fullmatch(header.lower()) if len(header) <= _LONGEST else None
    return found["name"].strip("[]").rstrip(".") if found else None


def added_names() -> tuple[str, ...]:
    """Return the names that are answered to beside the machine's own.

    ``PEFT_LAB_HOSTS`` holds names with commas between; ``*.example.org`` is all below it, ``*`` all. Streamlit's
    settings add the name to open the app by, and those allowed for its WebSocket.
    """
    settings = (st.get_option("browser.serverAddress"), *(st.get_option("server.allowedHosts") or ()))
    names = (*os.environ.get(VARIABLE, "").split(","), *(str(name) for name in settings if name))
    return tuple(name.strip().lower().rstrip(".") for name in names if name.strip())


class Hosts:
    """This machine's own names and addresses, and the ones that were added (:func:`added_names` by default)."""

    def __init__(self, added: tuple[str, ...] | None = None) -> None:
        self._added = added_names() if added is None else added
        self._own: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def allow(self, name: str) -> bool:
        """Return whether the app answers to this name, as :func:`name_of` gives it."""
        return self._is_added(name) or is_loopback(name) or self._is_own(name)

    def is_own_page(self, headers: Headers) -> bool:
        """Return whether a request comes from a page of this app, by its ``Origin``; programs state none.

        Host and port have to be those that are asked for. Behind a proxy that hands on another port than it listens
        at, a name that was added (``PEFT_LAB_HOSTS``) stands for all its ports; one that leads each machine to itself
        does not.
        """
        stated = headers.getlist("origin")
        if not stated or not st.get_option("server.enableCORS"):
            return True
        if len(stated) > 1:
            return False
        if stated[0] in (st.get_option("server.corsAllowedOrigins") or ()):
            return True
        scheme, separator, origin = stated[0].lower().partition("://")
        name, host = name_of(origin), headers.get("host", "").lower()
        if not separator or name is None or name != name_of(host):
            return False
        if _port(origin, scheme) == _port(host, scheme):
            return True
        return not is_loopback(name) and self._is_added(name)

    def _is_added(self, name: str) -> bool:
        """Return whether a name was added, itself or by a pattern: ``*`` or ``*.example.org``."""
        return any(
            name.endswith(one[1:]) if one.startswith("*.") else one in ("*", name) for one in self._added
        )

    def _is_own(self, name: str) -> bool:
        if name not in self._own and time.monotonic() - self._read_at > _FRESH_SECONDS:
            self._own, self._read_at = own_names(), time.monotonic()
        return name in self._own


def own_names() -> frozenset[str]:
    """Return what this machine is called, and the addresses of its network interfaces."""
    host = socket.gethostname().lower()
    short = host.partition(".")[0]
    inet = (socket.AF_INET, socket.AF_INET6)
    addresses = {
        entry.address.partition("%")[0].lower()
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in inet
    }
    return frozenset({host, short, f"{short}.local"} | addresses)


def is_loopback(name: str) -> bool:
    """Return whether a name or address leads each machine to itself."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _port(host: str, scheme: str) -> int | None:
    """Return the port behind a name that :func:`name_of` reads, or the scheme's own."""
    found = _HEADER.fullmatch(host)
    return int(found["port"]) if found and found["port"] else _PORTS.get(scheme)
