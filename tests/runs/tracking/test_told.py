from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from peft_lab.runs.spec import RunSpec
from peft_lab.runs.tracking import follow as base
from tests.runs.test_view import event, step

SPEC = RunSpec("minilm-l6", "lora", "sentiment", values={"r": 8, "target_modules": ("query", "value")},
               steps=60, batch=4, learning_rate=5e-4, max_length=128, eval_rows=4)  # fmt: skip
EVENTS = [
    event("queued", 10.0),
    event("evaluated", 10.5, which="base", metrics={"accuracy": 0.5}, loss=0.7, rows=4, seconds=0.2),
    event("ready", 11.0, trainable=5, head=2, total=99, dtype="float32", device="cpu"),
    step(1, 12.0, loss=2.0),
    step(2, 13.0, loss=1.5),
    event("memory", 13.0, peak_bytes=1000, parts={"weights": 600, "adapter": 40}, detail={}, timeline=[]),
    event("evaluated", 14.0, which="tuned", metrics={"accuracy": 0.75}, loss=0.4, rows=4, seconds=0.3),
    event("done", 15.0, message=""),
]


def test_the_spec_and_what_the_run_found_are_parameters() -> None:
    found = base.run_parameters(SPEC, EVENTS)
    assert found["method"] == "lora"
    assert found["values.r"] == "8"
    assert found["values.target_modules"] == '["query", "value"]'
    assert found["learning_rate"] == "0.0005"
    assert (found["trainable"], found["device"]) == ("5", "cpu")
    assert base.run_parameters(SPEC, EVENTS[:1]).keys() == found.keys() - {
        "trainable",
        "head",
        "total",
        "dtype",
        "device",
    }


def test_figures_stand_at_the_step_after_which_they_were_found() -> None:
    found = {(each.name, each.step): each for each in base.run_points(EVENTS)}
    assert found["loss", 1].value == 2.0
    assert (found["loss", 2].value, found["loss", 2].time, found["loss", 2].since) == (1.5, 13.0, 3.0)
    assert found["base/accuracy", 0].value == 0.5
    assert found["tuned/accuracy", 2].value == 0.75
    assert found["memory/peak_bytes", 2].value == 1000
    assert found["memory/weights_bytes", 2].value == 600
    assert found["step_seconds", 2].value == EVENTS[4]["seconds"]


def test_a_base_that_is_scored_last_stands_at_step_0_all_the_same() -> None:
    late = [*EVENTS[2:5], EVENTS[1]]
    assert [each.step for each in base.run_points(late) if each.name == "base/accuracy"] == [0]


@given(st.integers(0, 30), st.integers(0, 30))
def test_what_is_told_in_two_parts_is_what_is_told_at_once(steps: int, cut: int) -> None:
    events: list[dict[str, Any]] = [
        event("queued", 0.0), *(step(number, float(number)) for number in range(1, steps + 1))
    ]  # fmt: skip
    sent: dict[str, int] = {}
    parts = []
    for known in (events[: cut + 1], events):
        fresh = [each for each in base.run_points(known) if each.step > sent.get(each.name, -1)]
        sent |= {each.name: each.step for each in fresh}
        parts += fresh
    assert parts == base.run_points(events)


def test_a_text_parameter_stands_without_quotes_and_a_list_as_json() -> None:
    found = base.run_parameters(replace(SPEC, probes=("one", "two")), [])
    assert (found["model"], found["probes"]) == ("minilm-l6", '["one", "two"]')
