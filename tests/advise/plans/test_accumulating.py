"""Full fine-tuning in several passes per update keeps gradients between them: Plan counts them as Memory does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import peft_lab
from peft_lab.advise import plan as plans
from peft_lab.advise.room import Room, room_of
from peft_lab.advise.simulating import Needed, StepRun
from peft_lab.advise.situation import Situation
from peft_lab.advise.tree import ADVICE

MODEL, SEQ, GB = "smollm2-135m", 128, 10**9


@pytest.mark.parametrize(("devices", "sharding"), [(1, "none"), (2, "fsdp2")])
def test_plans_bytes_are_memorys_with_as_many_passes(devices: int, sharding: str) -> None:
    situation = Situation(model=MODEL, device="rtx-4090", seq=SEQ, devices=devices, rows=50_000)
    room = room_of(situation, precision="mixed-fp32")
    whole = room.most("full", {}, sharding)
    run = StepRun(whole, False, dtype="float32", sharding=sharding, precision="mixed-fp32")
    # too little for all rows at once, with room for the gradients of an earlier pass
    few = room.needs("full", {}, replace(run, batch=whole // 2))
    step, _ = room.with_memory(int(few * 1.2)).fit("full", {}, sharding, False)
    assert step is not None and step.batch < whole == step.batch * step.accumulate
    options: dict[str, Any] = {
        "batch": step.batch, "seq": SEQ, "precision": "mixed-fp32", "optimizer": step.optimizer, "loss": step.loss,
    }  # fmt: skip
    if devices > 1:
        options |= {"devices": devices, "sharding": sharding}
    (row,) = peft_lab.peak(MODEL, "full", accumulate=step.accumulate, **options).rows
    assert step.needed == row["reserved_bytes"]
    (once,) = peft_lab.peak(MODEL, "full", **options).rows
    assert step.needed > once["reserved_bytes"], "the gradients of an earlier pass take memory"


def test_a_method_with_small_gradients_is_asked_for_one_pass() -> None:
    asked = _fitted(needs=lambda run: run.batch * GB, method="lora")[1]
    assert not any(run.accumulates for run in asked)


def test_an_update_reads_one_pass_where_gradients_of_another_do_not_fit() -> None:
    room, asked = _fitted(needs=lambda run: (run.batch + 20 * run.accumulates) * GB)
    step, _ = room.fit("full", {}, "none", False)
    assert step is not None and step.accumulate == 1
    assert step.batch < room.most("full", {}, "none") and any(run.accumulates for run in asked)
    plan = plans.make(Situation(model=MODEL, device="rtx-3060"), room, ADVICE["full-text"], step)
    assert plan.accumulate == 1 and plan.settings["steps"].value > 0
    wide, _ = _fitted(needs=lambda run: (run.batch + 2 * run.accumulates) * GB)
    several = wide.fit("full", {}, "none", False)[0]
    assert several is not None and several.accumulate > 1
    assert (several.batch + 2) * GB <= several.needed <= wide.usable


def _fitted(needs: Any, method: str = "full") -> tuple[Room, list[StepRun]]:
    """A room on a card of 12 GB whose steps need what is said, asked once, and what it was asked."""
    asked = list[StepRun]()

    def ask(_: Situation) -> Needed:
        def needed(_: str, __: Mapping[str, Any], run: StepRun) -> int:
            asked.append(run)
            return int(needs(run))

        return needed

    room = Room(Situation(model=MODEL, device="rtx-3060"), ask)
    room.fit(method, {}, "none", False)
    return room, asked
