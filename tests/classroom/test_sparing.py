"""What spares a class's machine and its patience: who gives way, short runs, a recorded one while the own waits."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import get_args

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from peft_lab.core import asking, inspector, processes
from peft_lab.core.inspector import Inspector
from peft_lab.drawing.trajectory.format import shipped
from peft_lab.methods import all_methods
from peft_lab.methods.base import CLASS_STEPS
from peft_lab.models.shapes import CLASSIFIERS, ModelKind
from peft_lab.runs import child
from peft_lab.ui import home
from peft_lab.ui.server import door, sessions
from tests.classroom.conftest import CODE, joined
from tests.classroom.test_turns import queued
from tests.waits import SECONDS


def _trains(told: str, of_class: bool) -> None:
    """In a process as trainings have: what its niceness is where a training would begin."""
    with pytest.MonkeyPatch.context() as patch:
        given = ("a folder", "a home", 1.0)
        patch.setattr(
            child,
            "main",
            lambda *args: Path(told).write_text(json.dumps([args == given, processes.niceness()])),
        )
        child._main(*given, processes.TRAINS_AFTER if of_class else 0, CODE if of_class else "")


@pytest.mark.parametrize("of_class", [True, False])
def test_a_training_gives_way_in_a_class_only(tmp_path: Path, of_class: bool) -> None:
    told = tmp_path / "told"
    making = processes.context()
    process = making.Process(target=_trains, args=(str(told), of_class))  # type: ignore[attr-defined]
    process.start()
    process.join(SECONDS)
    asked_for_the_same, found = json.loads(told.read_text())
    own = processes.niceness()
    assert asked_for_the_same
    assert found == (min(19, own + processes.TRAINS_AFTER) if of_class else own)


@pytest.mark.parametrize("of_class", [True, False])
def test_who_simulates_gives_way_less_and_who_counts_not_at_all(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, of_class: bool
) -> None:
    if of_class:
        monkeypatch.setenv(asking.CLASS_VARIABLE, CODE)
    else:
        monkeypatch.delenv(asking.CLASS_VARIABLE, raising=False)
    counting, simulating = Inspector(), inspector.get_pool.__wrapped__()
    own = processes.niceness()
    try:
        found = [
            simulating.submit(0, processes.niceness).result(SECONDS),
            counting.submit(processes.niceness).result(SECONDS),
        ]
    finally:
        counting.close()
        simulating.close()
    assert found == [own + processes.SIMULATES_AFTER if of_class else own, own]


def test_language_models_train_shorter_by_default_in_a_class(
    empty_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usual() -> dict[tuple[str, str], int]:
        return {
            (slug, kind): spec.usual_steps(kind)
            for slug, spec in all_methods().items()
            for kind in get_args(ModelKind)
        }

    in_class, home_steps = usual(), home.request().steps
    monkeypatch.delenv(asking.CLASS_VARIABLE)
    alone = usual()
    assert home_steps == CLASS_STEPS and home.request().steps == alone["lora", "causal-lm"] > CLASS_STEPS
    for (slug, kind), steps in alone.items():
        expected = steps if kind in CLASSIFIERS else min(steps, CLASS_STEPS)
        assert in_class[slug, kind] == expected, (slug, kind)


def waiting_page() -> None:
    from types import SimpleNamespace
    from typing import Any

    from peft_lab.runs import store
    from peft_lab.ui.method import train

    (run,) = store.runs()
    choice: Any = SimpleNamespace(spec=run.spec.method_spec)
    train.live(run, choice)


def test_who_waits_sees_a_recorded_run(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = joined("Ada")
    run = queued(ada)
    monkeypatch.setattr(sessions, "who_asks", lambda: ada)
    app, recorded = AppTest.from_function(waiting_page).run(), shipped(run.spec.method)
    assert not app.exception and recorded.example is not None
    assert any(recorded.label in each.value for each in app.markdown)
    drawn = " ".join(str(each.proto.body) for each in app.get("html"))
    assert html.escape(recorded.example.text) in drawn and f"Step {len(recorded.curve.loss)}" in drawn


@pytest.mark.parametrize(
    ("seen", "listens", "inside", "address"),
    [
        ("http://localhost:8501/", "0.0.0.0", False, "http://10.1.2.3:8501/"),
        ("http://127.0.0.1:8501/lab/", "", False, "http://10.1.2.3:8501/lab/"),
        ("http://lab.example/", "0.0.0.0", False, "http://lab.example/"),
        ("http://localhost:8501/", "localhost", False, None),
        ("http://localhost:8501/", "0.0.0.0", True, None),
        ("/", "0.0.0.0", False, None),
    ],
)
def test_the_way_in_leads_to_this_machine_from_others(
    seen: str,
    listens: str,
    inside: bool,
    address: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "lan_address", lambda: "10.1.2.3")
    monkeypatch.setattr(door, "_CONTAINER", (str(tmp_path) if inside else str(tmp_path / "none"),))
    monkeypatch.setattr(st, "get_option", lambda name: listens)
    assert door.class_address(seen) == address
