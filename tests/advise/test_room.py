"""Activations go to main memory where a checkpointed step fits in no other way, and only there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import peft_lab
from peft_lab.advise import plan as plans
from peft_lab.advise.plans.steps import loading, short
from peft_lab.advise.room import Room, room_of
from peft_lab.advise.simulating import Needed, StepRun
from peft_lab.advise.situation import Situation
from peft_lab.advise.tree import ADVICE
from peft_lab.models.catalogue import resolve
from tests.advise.plans.test_script import planned
from tests.prose import says

GIB = 2**30


def asking(here: int, away: int) -> Any:
    """A simulation in which a step needs so much, and so much with activations in main memory."""

    def ask(situation: Situation) -> Needed:
        def needed(method: str, values: Mapping[str, Any], run: StepRun) -> int:
            if run.in_main_memory:
                assert run.offload
                return 7 * GIB
            return away if run.offload else here

        return needed

    return ask


@pytest.mark.parametrize(
    ("here", "away", "checkpointing", "offload"),
    [
        (8 * GIB, 6 * GIB, True, False),
        (800 * GIB, 6 * GIB, True, True),
        (800 * GIB, 6 * GIB, False, None),
        (800 * GIB, 700 * GIB, True, None),
    ],
)
def test_they_go_where_nothing_else_fits(
    here: int, away: int, checkpointing: bool, offload: bool | None
) -> None:
    situation = Situation(model="smollm2-135m", device="rtx-4090")
    room = Room(situation, asking(here, away))
    step, least = room.fit("lora", {}, "none", checkpointing)
    if offload is None:
        ways = [here, away] if checkpointing else [here]  # what is kept elsewhere are checkpoints
        assert step is None and least == min(ways), "what is said to be missing is the least of both ways"
        return
    assert step is not None and step.offload == offload
    assert step.host == (7 * GIB if offload else 0)


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


GB = 10**9


def room(situation: Situation, wide: int, narrow: int) -> tuple[Room, list[StepRun]]:
    """One that says what a row needs by the weights' precision, and what it was asked."""
    asked: list[StepRun] = []

    def ask(_: Situation) -> Needed:
        def needed(method: str, values: Mapping[str, Any], run: StepRun) -> int:
            asked.append(run)
            return (wide if run.dtype == "float32" else narrow) + run.batch * GB

        return needed

    return Room(situation, ask), asked


@pytest.mark.parametrize(
    ("wide", "narrow", "kept"), [(20, 10, "float32"), (70, 10, "bfloat16"), (70, 70, None)]
)
@pytest.mark.parametrize("sharding", ["fsdp2", "tp"])
def test_weights_are_kept_in_float32_where_they_fit_and_else_in_bfloat16(
    wide: int, narrow: int, kept: str | None, sharding: str
) -> None:
    situation = Situation(model="llama-3.2-3b", device="a100-40", devices=4, link="nvlink")
    place, _ = room(situation, wide * GB, narrow * GB)
    step, least = place.fit("full", {}, sharding, True)
    assert (None if step is None else step.dtype) == kept
    if step is None:
        assert least > narrow * GB and "weights kept in bfloat16" in short(
            place, situation, "full", sharding, least
        )


def test_what_is_split_says_what_loading_it_takes_of_main_memory() -> None:
    """The first process of the script loads the whole model, and every one of them where it is packed or split by
    matrices."""
    shape = resolve("llama-3.1-70b").shape
    plan = planned("lora", "fsdp2+offload", "llama-3.1-70b", devices=2, host_bytes=shape.total).plan
    alone = loading(shape, "lora", plan)
    assert (alone.main_bytes, alone.loader, alone.processes) == (2 * shape.total, "first-rank", 1)
    assert says(alone.told, "first") and says(alone.told, "main memory", "141 GB")
    packed = loading(shape, "qlora", planned("qlora", "fsdp2", "llama-3.1-70b", devices=2).plan)
    assert shape.total / 2 < packed.main_bytes < shape.total and packed.loader == "every-rank"
    for kept, each in (("float32", 4), ("bfloat16", 2)):
        assert loading(shape, "full", replace(plan, remembered=kept)).main_bytes == each * shape.total
    all_of_them = loading(shape, "lora", replace(plan, sharding="tp"))
    assert says(all_of_them.told, "every process") and "282 GB together" in all_of_them.told
    whole = loading(shape, "lora", replace(plan, sharding="ddp"))
    assert whole.device_bytes == whole.main_bytes == 2 * shape.total, "each loads what its GPU keeps"


def test_what_a_share_of_the_states_rules_out_is_not_simulated() -> None:
    situation = Situation(model="llama-3.1-70b", device="a100-80", devices=8, link="nvlink")
    place, asked = room(situation, 0, 0)
    step, _ = place.fit("full", {}, "fsdp2", True)
    assert step is not None and {run.dtype for run in asked} == {"bfloat16"}, (
        "16 bytes a weight are 141 GB each"
    )


def test_a_card_that_does_not_multiply_bfloat16_keeps_float32_alone() -> None:
    def widths(card: str, method: str) -> list[str]:
        place, _ = room(Situation(device=card, devices=2), 0, 0)
        return list(dict.fromkeys(run.dtype for run in place.states(method, "fsdp2")))

    assert widths("t4", "full") == ["float32"]
    assert widths("a10", "full") == ["float32", "bfloat16"]
    assert widths("a10", "lora") == ["bfloat16"]
