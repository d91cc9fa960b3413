"""Every config that a plan writes for another tool is read back as the plan that wrote it."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.advise.foreign.reading import read
from peft_lab.advise.plans import configs
from peft_lab.advise.plans.wanted import PlanFacts
from tests.advise.plans.test_script import planned

MODEL = "llama-3.2-1b"
PLANS = [
    ("lora", "ddp", {"checkpointing": True}),
    ("lora", "fsdp2", {"checkpointing": True, "dtype": "bfloat16"}),
    ("qlora", "ddp", {"optimizer": "paged_adamw8bit", "packed": True}),
    ("qlora", "fsdp2+offload", {"checkpointing": True, "loss": "chunked", "memory_bytes": 1 << 40}),
    ("full", "fsdp2", {"checkpointing": True}),
    ("lora", "none", {"devices": 1, "offload": True, "checkpointing": True, "optimizer": "adamw8bit"}),
]


def same(facts: PlanFacts, text: str, name: str, of_script: bool = True) -> None:
    """Assert that a file is read as its plan. ``of_script``: whether sharding stands in it."""
    plan, reading = facts.plan, read(text, name)
    said = reading.settings
    assert reading.method == facts.method.slug
    assert said["model"] == MODEL
    wanted = (plan.batch, plan.seq, plan.accumulate, plan.learning_rate, float(facts.said("epochs")))
    assert (said["batch"], said["seq"], said["accumulate"], said["learning_rate"], said["epochs"]) == wanted
    assert said["optimizer"] == plan.optimizer
    # in chunks of rows a plan's loss is, and each tool has a fused one of its own
    assert (said.get("loss", "whole") == "whole") == (plan.loss == "whole")
    assert bool(said.get("offload")) == plan.offload
    assert bool(said.get("packing")) == plan.packed
    if of_script:
        assert said.get("checkpointing", False) == plan.checkpointing
        assert (said.get("sharding") == "fsdp2") == facts.sharded
        assert bool(said.get("sharding_offload")) == plan.sharding.endswith("offload")
    if facts.method.slug == "full":
        assert said["dtype"] == plan.remembered
    else:
        knobs = {name: facts.values[name] for name in ("r", "lora_alpha", "lora_dropout")}
        assert {name: said[name] for name in knobs} == knobs
        told = dict(one.split("=", 1) for one in reading.sets)
        given = {name: facts.method.knob(name).parse(value) for name, value in told.items()}
        read_as = facts.method.require(facts.entry.shape, given)["target_modules"]
        whole = set(facts.entry.shape.target_names)
        assert {*read_as} in ({*facts.values["target_modules"]}, {"all-linear"}, whole)


@pytest.mark.parametrize(("method", "sharding", "changes"), PLANS)
def test_a_plans_files_are_read_back_as_the_plan(method: str, sharding: str, changes: dict[str, Any]) -> None:
    facts = planned(method, sharding, MODEL, **changes)
    if not configs.axolotl_refusal(facts):
        same(facts, configs.axolotl(facts, "LlamaDecoderLayer"), "axolotl.yaml")
    assert not configs.factory_refusal(facts)
    same(facts, configs.llama_factory(facts), "llama_factory.yaml", of_script=not facts.sharded)
    reading = read(configs.accelerate(facts, "LlamaDecoderLayer"), "accelerate.yaml")
    assert reading.tool == "accelerate"
    said = reading.settings
    assert said["devices"] == facts.plan.devices
    kind = "fsdp2" if facts.sharded else "ddp" if facts.plan.devices > 1 else "none"
    assert said.get("sharding", "none") == kind
    assert bool(said.get("sharding_offload")) == sharding.endswith("offload")
    assert bool(said.get("checkpointing")) == (facts.sharded and facts.plan.checkpointing)
