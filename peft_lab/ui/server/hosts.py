"""The names that the app answers to.

A page on another site can make its own name point at this machine (DNS rebinding); the browser then lets that page
read everything here, as both seem to be one site. What gives it away is the name that the browser asks for.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time

import psutil

VARIABLE = "PEFT_LAB_HOSTS"
_HEADER = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)(?::\d{1,5})?", re.ASCII)
_LONGEST = 260  # a name of 253 characters, a colon and a port
_FRESH_SECONDS = 5.0  # a laptop changes networks while the app runs


def name_of(header: str) -> str | None:
    """The name or address in a ``Host`` header: small letters, no port, no brackets; ``None`` if there is none."""
    found = _HEADER.fullmatch(header.lower()) if len(header) <= _LONGEST else None
    return found["name"].strip("[]").rstrip(".") if found else None


def from_environment() -> tuple[str, ...]:
    """What ``PEFT_LAB_HOSTS`` adds: names with commas between; ``*.example.org`` is all below it, ``*`` all."""
    return tuple(
        part.strip().lower().rstrip(".") for part in os.environ.get(VARIABLE, "").split(",") if part.strip()
    )


class Hosts:
    """This machine's own names and addresses, and the ones that were added."""

    def __init__(self, added: tuple[str, ...] = ()) -> None:
        self._added = added
        self._own: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def allow(self, name: str) -> bool:
        """Whether the app answers to this name, as :func:`name_of` gives it."""
        return (
            any(_matches(name, pattern) for pattern in self._added) or is_loopback(name) or self._is_own(name)
        )

    def _is_own(self, name: str) -> bool:
        if name not in self._own and time.monotonic() - self._read_at > _FRESH_SECONDS:
            self._own, self._read_at = own_names(), time.monotonic()
        return name in self._own


def own_names() -> frozenset[str]:
    """What this machine is called, and the addresses of its network interfaces."""
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
    """Whether a name or address leads each machine to itself."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return pattern in ("*", name)
