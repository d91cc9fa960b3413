"""A split step of full fine-tuning keeps its weights in float32 where that fits, else in bfloat16, which is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from peft_lab.advise.plans.configs import write
from peft_lab.advise.plans.ranking import Candidate, Planned, evaluate, front
from peft_lab.advise.plans.steps import loading, short
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import Needed, StepRun
from peft_lab.advise.situation import Situation
from peft_lab.models.catalogue import resolve
from tests.advise.plans.test_script import planned
from tests.prose import says

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


@pytest.mark.slow
def test_the_plan_names_what_it_loses_and_beats_none_that_loses_nothing() -> None:
    wanted = Wanted("llama-3.2-3b", "sft", 2_000, 200, 256, "rtx-4090", 3)
    found = evaluate(asdict(wanted), asdict(Candidate("full", "fsdp2", True)))
    assert found.plan is not None and found.rounds and found.title.endswith("weights in bfloat16")
    said = found.plan.settings["master_weights"]
    assert said.value == "bfloat16" and "rounded away" in said.why
    assert found.as_dict()["rounds_updates_away"] is True
    files = write(asdict(wanted), found).files
    assert "dtype=DTYPE" in files["train.py"] and "spread(model, SHARDING, DEVICE, None" in files["train.py"]
    assert "mixed_precision: 'no'" in files["accelerate.yaml"]
    kept = Planned(**{**vars(found), "plan": _in_float32(found)})
    assert front([found, kept]) == [found, kept]


def _in_float32(found: Planned) -> Any:
    from dataclasses import replace

    assert found.plan is not None
    return replace(found.plan, remembered="float32", needed_bytes=found.plan.needed_bytes + GB)
