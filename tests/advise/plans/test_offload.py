"""Activations go to main memory where a checkpointed step fits in no other way, and only there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest
import yaml

from peft_lab.advise.plans import configs, ranking, steps
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.wanted import Wanted, gather_facts
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import Needed, StepRun
from peft_lab.advise.situation import Situation
from peft_lab.engine.timing import kernels
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


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.rest
def test_a_long_row_of_a_real_model_is_planned_so() -> None:
    """Nothing here stands for the simulation: what does not fit on a real card fits once its activations wait."""
    wanted = Wanted(model="llama-3.2-1b", gpu="rtx-4090", rows=100, row_tokens=65_536, seq=65_536).check()
    one = ranking.evaluate(asdict(wanted), asdict(Candidate("lora", "none", True)))
    plan = one.plan
    assert plan is not None and plan.offload and one.title.endswith("in main memory")
    room = ranking.room_for(wanted)
    assert plan.needed_bytes <= room.usable < plan.memory_bytes
    run = StepRun(plan.batch, True, plan.optimizer, plan.dtype, loss=plan.loss)
    assert room.needs("lora", plan.values, run) > room.usable, "the same step with all of it on the card"
    # at least each layer's input: 16 layers of 65,536 tokens, 2,048 wide, two bytes a number
    assert plan.host_bytes >= 16 * 65_536 * 2_048 * 2
    assert one.update is not None and one.update.parts["host"] >= 2 * plan.host_bytes / kernels.PINNED
    facts = gather_facts(resolve(wanted.model), "lora", plan, wanted.situation().purpose)
    assert ", offloading(model)" in steps.script(facts)


def test_the_title_and_other_tools_files_say_it(tiny: dict[str, str]) -> None:
    facts = planned("lora", "none", tiny["causal-lm"], devices=1, checkpointing=True, offload=True)
    shown = Planned(Candidate("lora", "none", True), facts.plan)
    assert says(shown.title, "checkpointed", "in main memory")
    assert yaml.safe_load(configs.axolotl(facts, ""))["activation_offloading"] == "hidden_states"
    assert yaml.safe_load(configs.llama_factory(facts))["use_unsloth_gc"] is True
    plain = planned("lora", "none", tiny["causal-lm"], devices=1, checkpointing=True)
    assert "offload" not in configs.axolotl(plain, "") and "unsloth" not in configs.llama_factory(plain)
