"""Numbers that nobody can mean: every numeric option of every command refuses them before anything is done."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import pytest

from peft_lab.advise import simulating
from peft_lab.advise.situation import Situation
from peft_lab.cli import app
from peft_lab.core import inspector
from peft_lab.studies.compare import store
from tests.cli.conftest import Run

ABSURD = "9" * 30
#: How each command is called where all else is as it should be.
CALLS = {
    "train": ("--model", "smollm2-135m", "--method", "lora", "--task", "json"),
    "compare": ("--model", "smollm2-135m", "--task", "json", "--methods", "lora"),
    "memory": ("--model", "smollm2-135m", "--batch", "1", "--seq", "8", "--method", "lora"),
    "count": ("--model", "smollm2-135m"),
    "open": ("<folder>", "--model", "smollm2-135m", "--task", "json"),
    "plan": ("--model", "smollm2-135m", "--gpu", "rtx-4090"),
    "sweep": ("<file>",),
    "app": (),
    "serve": (),
    "recommend": (),
}
#: Options whose numbers come as text, by command, with what stands before and behind the number.
TEXTS = {
    "train": (("--set", "r={}"),),
    "compare": (("--seeds", "{}"), ("--set", "r={}")),
    "memory": (
        ("--generate", "{},1"), ("--generate", "1,{}"), ("--set", "r={}"), ("--fits", "{}GB"), ("--gpu", "{}GB"),
    ),
    "count": (("--set", "r={}"),),
    "plan": (
        *((f"--{name}", "{}") for name in ("devices", "rows", "row-tokens", "seq", "price", "deadline")),
        ("--gpu", "{}GB"),
    ),
    "recommend": (
        *(("--answer", f"{name}={{}}") for name, field in Situation.fields().items() if field.max),
        ("--answer", "storage={}GB"), ("--answer", "device={}GB"), ("--answer", "device={}xh100"),
    ),
}  # fmt: skip


def numeric() -> list[tuple[str, str]]:
    """Every option of a command that typer or a form's field reads as a number."""
    found = []
    for one in app.registered_commands:
        assert one.name is not None and one.callback is not None
        for name, hint in typing.get_type_hints(one.callback, include_extras=True).items():
            stated = {getattr(part, "metavar", None) for part in typing.get_args(hint)[1:]}
            plain = typing.get_args(hint)[0] if typing.get_args(hint)[1:] else hint
            if {plain, *typing.get_args(plain)} & {int, float} or stated & {"INTEGER", "FLOAT"}:
                found.append((one.name, f"--{name.replace('_', '-')}"))
    return found


CASES = [
    *((command, (option, ABSURD)) for command, option in numeric()),
    *(
        (command, (option, form.format(ABSURD)))
        for command, options in TEXTS.items()
        for option, form in options
    ),
]


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever works on an answer, a process, a simulation or a kept comparison, fails the test."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("work began")

    for name in ("bytes_needed", "simulate", "simulate_sharded"):
        monkeypatch.setattr(simulating, name, refuse)
    monkeypatch.setattr(inspector.Pool, "submit", refuse)
    monkeypatch.setattr(inspector.Inspector, "ask", refuse)
    monkeypatch.setattr(store, "keep", refuse)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("command", "more"), CASES, ids=[" ".join((one, *more))[:60] for one, more in CASES])
def test_an_absurd_number_is_refused_in_one_line_before_any_work(
    run: Run, tmp_path: Path, command: str, more: tuple[str, str]
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"config": {"architecture": "lora"}}', "utf-8")
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("model: smollm2-135m\ntask: json\nmethod: lora\n", "utf-8")
    places = {"<folder>": str(tmp_path), "<file>": str(sweep)}
    line = run(command, *(places.get(word, word) for word in CALLS[command]), *more).refused()
    assert len(line) < 800


def test_every_numeric_option_is_tried() -> None:
    assert {command for command, _ in numeric()} <= set(CALLS)
    assert len(numeric()) >= 15
