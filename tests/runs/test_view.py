from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.runs.view import Status, classify, scoring, view
from tests.prose import says

KINDS = ["queued", "starting", "phase", "ready", "step", "memory", "probe", "evaluating", "evaluated",
         "done", "stopped", "failed", "lost", "unheard of"]  # fmt: skip


def event(kind: str, time: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "time": time, **fields}


def step(number: int, time: float, loss: float = 1.0, seconds: float = 0.5, **fields: Any) -> dict[str, Any]:
    return event(
        "step", time, step=number, loss=loss, lr=0.1, grad_norm=1.0, tokens=100, seconds=seconds, **fields
    )


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ([], Status.QUEUED),
        (["queued", "starting"], Status.STARTING),
        (["queued", "starting", "ready"], Status.RUNNING),
        (["queued", "starting", "ready", "step", "memory"], Status.RUNNING),
        (["queued", "starting", "ready", "step", "evaluating", "evaluated", "probe"], Status.EVALUATING),
        (["queued", "starting", "ready", "done"], Status.DONE),
        (["queued", "stopped"], Status.STOPPED),
        (["queued", "lost"], Status.LOST),
        (["queued", "starting", "ready", "lost", "step", "done"], Status.LOST),
    ],
)
def test_status(kinds: list[str], status: Status) -> None:
    assert classify([event(kind) for kind in kinds], "") is status


@given(st.lists(st.sampled_from(KINDS), max_size=20), st.lists(st.sampled_from(KINDS), max_size=5))
def test_an_ending_is_for_good(kinds: list[str], later: list[str]) -> None:
    before = classify([event(kind) for kind in kinds], "")
    if before.final:
        assert classify([event(kind) for kind in kinds + later], "") is before


def test_view_of_a_run_in_the_middle() -> None:
    events = [
        event("queued", 10.0),
        event("starting", 10.1),
        event("phase", 10.2, name="Loading the model"),
        event("ready", 11.0, trainable=5),
        step(1, 12.0, loss=2.0),
        step(2, 12.5, loss=1.5),
        step(3, 15.5, loss=1.2, seconds=3.0, tracked=True),
        event("memory", 15.6, peak_bytes=7, parts={"weights": 7}),
        step(4, 16.0, loss=1.0),
    ]
    seen = view(events, steps=10, gone="")
    assert seen.status is Status.RUNNING
    assert seen.losses == (2.0, 1.5, 1.2, 1.0)
    assert (seen.step, seen.steps, seen.progress) == (4, 10, 0.4)
    # the tracked step is slower than the others and counts in the time, not in the speed
    assert seen.seconds == pytest.approx(4.5)
    assert seen.steps_per_second == pytest.approx(2.0)
    assert seen.tokens_per_second == pytest.approx(200.0)
    assert seen.eta == pytest.approx(3.0)
    assert seen.memory == {"peak_bytes": 7, "parts": {"weights": 7}}
    assert seen.first_loss_after == pytest.approx(2.0)
    assert seen.before is None and seen.after is None and seen.ended is None


def test_view_of_the_evaluation_and_the_end() -> None:
    events = [event("queued"), event("starting"), event("ready"), step(1, 1.0)]
    events.append(event("evaluating", 2.0, which="tuned", done=32, total=64))
    assert (view(events, 1, "").evaluating, view(events, 1, "").progress) == ("tuned", 0.5)
    assert (view(events, 1, "").scored, view(events, 1, "").right) == (32, None), "of an earlier version"
    events[-1]["right"] = 17
    assert (view(events, 1, "").scored, view(events, 1, "").right) == (32, 17)
    assert says(scoring(view(events, 1, "")), "17", "32", "36%", "69%")
    assert view(events, 1, "").so_far == pytest.approx((17 / 32, 0.364, 0.691), abs=1e-3)
    events.append(
        event("evaluated", 3.0, which="tuned", metrics={"accuracy": 0.8}, loss=0.4, rows=64, seconds=1.0)
    )
    assert scoring(view(events, 1, "")) != scoring(view(events[:4], 1, "")), "nothing is scored any more"
    events.append(event("evaluating", 3.0, which="base", done=16, total=64))
    assert (view(events, 1, "").evaluating, view(events, 1, "").progress) == ("base", 0.25)
    assert view(events, 1, "").right is None, "what the tuned model got right is not the base's"
    events.append(
        event("evaluated", 4.0, which="base", metrics={"accuracy": 0.5}, loss=0.7, rows=64, seconds=1.0)
    )
    events.append(
        event("probe", 4.0, which="base", answers=[{"text": "a", "answer": "no", "scores": {"no": 1.0}}])
    )
    events.append(event("memory", 4.1, process_peak_bytes=9))
    events.append(event("done", 5.0, message=""))
    seen = view(events, 1, "")
    assert seen.before and seen.before.metrics == {"accuracy": 0.5}
    assert seen.after and seen.after.rows == 64
    assert seen.probes_before[0].answer == "no" and seen.probes_after == ()
    assert (seen.status, seen.progress, seen.ended, seen.memory) == (
        Status.DONE,
        1.0,
        5.0,
        {"process_peak_bytes": 9},
    )


def test_a_clock_that_was_set_back_makes_no_negative_times() -> None:
    events = [
        event("queued", 100.0),
        event("starting", 100.1),
        step(1, 40.0),
        step(2, 41.0),
        event("done", 42.0),
    ]
    seen = view(events, 2, "")
    assert seen.took == seen.seconds == 1.0 and seen.first_loss_after is None
