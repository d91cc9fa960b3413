"""Ports for servers that tests start: below those of connections, and each given once."""

from __future__ import annotations

import socket

import pytest

from tools import ports


def test_a_port_is_given_once_and_below_those_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_given", set())
    found = {ports.free_port() for _ in range(30)}
    assert len(found) == 30
    assert all(ports.LOWEST <= port < 32_768 for port in found)


def test_workers_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_given", set())
    found = []
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        found.append({ports.free_port() for _ in range(20)})
    assert max(found[0]) < min(found[1])


def test_what_listens_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", ports.free_port())) as listening:
        taken = listening.getsockname()[1]
        monkeypatch.setattr(ports, "_given", set())
        monkeypatch.setattr(ports, "LOWEST", taken)
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
        monkeypatch.setattr(ports, "SHARE", 1)
        with pytest.raises(OSError, match="free"):
            ports.free_port()
