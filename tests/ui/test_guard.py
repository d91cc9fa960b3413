"""Which names the app answers to."""

from __future__ import annotations

import pytest

from peft_lab.ui.server.hosts import Hosts, from_environment, name_of, own_names


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8501", "localhost"),
        ("LOCALHOST", "localhost"),
        ("localhost.", "localhost"),
        ("[::1]:8501", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("lab.example:443", "lab.example"),
        ("localhost:8501@evil.example", None),
        ("evil.example/localhost", None),
        ("localhost evil.example", None),
        ("localhost:", None),
        ("", None),
        ("a" * 300, None),
    ],
)
def test_the_name_in_a_header(header: str, name: str | None) -> None:
    assert name_of(header) == name


def test_this_machine_is_answered_and_nobody_else() -> None:
    hosts = Hosts()
    assert all(hosts.allow(name) for name in ("localhost", "127.0.0.1", "127.8.9.1", "::1", *own_names()))
    foreign = (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "203.0.113.7",
        "2001:db8::7",
    )
    assert not any(hosts.allow(name) for name in foreign)


def test_names_that_were_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOSTS", "Lab.Example, *.school.example,")
    hosts = Hosts(from_environment())
    assert all(
        hosts.allow(name) for name in ("lab.example", "a.school.example", "b.a.school.example", "localhost")
    )
    assert not any(
        hosts.allow(name) for name in ("school.example", "evilschool.example", "x.lab.example", "")
    )
    monkeypatch.setenv("PEFT_LAB_HOSTS", "*")
    assert Hosts(from_environment()).allow("anything.example")
