"""A type on two processes: what counts as the same, and that no is said where it is due."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from peft_lab.atlas import get_entry, rows
from tools.atlas_probe import cells, pair


@pytest.fixture(scope="module", autouse=True)
def two_processes() -> Iterator[None]:
    yield
    pair.end()


def _after(inputs: Any) -> tuple[list[Any], list[Any]]:
    """LoRA's weights before and after the steps on these rows."""
    held = pair._held(get_entry("lora"), 1, drawing=False)
    trained = pair._trained(held.model)
    start = pair._copies(trained)
    pair._steps(held.model, inputs(held.inputs), trained, {})
    return start, pair._copies(trained)


def test_half_a_batch_alone_is_not_the_whole() -> None:
    """What a rank would have whose gradients nobody averages is far off, and the same rows again are not."""
    start, whole = _after(dict)
    _, half = _after(lambda inputs: pair._half(inputs, 0))
    assert pair.furthest(half, whole, start) > 100 * pair.SAME
    assert pair.furthest(_after(dict)[1], whole, start) < pair.SAME


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["lora", "monteclora", "lily", "shadow", "arrow"])
def test_two_processes_answer_as_stored(name: str) -> None:
    """One that works, one that draws in training, and the three ways in which it does not."""
    found = cells.run(name, "with_ddp")
    assert found["value"] == rows.probed_value(name, "with_ddp"), found["why"]
    assert found["why"] == rows.why_not(name, "with_ddp")


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.rest
def test_a_process_that_died_is_told_and_the_next_question_gets_another_pair() -> None:
    assert cells.run("vera", "with_ddp")["value"] is True
    pair._running[0].ranks[1].kill()
    died = cells.run("vera", "with_ddp")
    assert died["value"] is None and "two processes" in died["why"]
    assert cells.run("vera", "with_ddp")["value"] is True
