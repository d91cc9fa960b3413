"""The words of other tools: keys as their sources have them, values as the plan has them."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
import yaml
from transformers import Seq2SeqTrainingArguments

from peft_lab.advise.foreign.reading import read
from peft_lab.advise.plans import configs
from peft_lab.advise.plans.configs import _dataset, write
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.wanted import NAME, PlanFacts, Wanted
from tests.advise.plans.test_script import planned

#: Its own arguments (hparams of 0.9.5); the others go to the trainer of transformers.
ITS_OWN = {
    "model_name_or_path", "stage", "finetuning_type", "lora_rank", "lora_alpha", "lora_dropout", "lora_target",
    "use_rslora", "quantization_bit", "quantization_type", "double_quantization", "dataset", "dataset_dir", "template",
    "cutoff_len", "packing", "pure_bf16", "disable_gradient_checkpointing", "val_size",
}  # fmt: skip


def test_llama_factorys_trainer_settings_are_those_of_its_transformers(tiny: dict[str, str]) -> None:
    """Its parser refuses a key that neither it nor the installed transformers knows, as warmup_ratio from 5.2 on."""
    found = yaml.safe_load(configs.llama_factory(planned("lora", "ddp", tiny["causal-lm"])))
    of_trainer = {field.name for field in fields(Seq2SeqTrainingArguments)}
    assert set(found) - of_trainer == set(found) & ITS_OWN
    assert found["warmup_steps"] == 5, "a tenth of 41 steps, rounded up, as a whole number"


def test_a_packed_base_that_no_card_holds_has_no_file_of_the_tools_that_load_it_there(
    tiny: dict[str, str],
) -> None:
    """70B on two cards of 24 GB: 39.5 GB, packed."""
    for sharding, memory, refused in (
        ("fsdp2", 0, True),
        ("fsdp2+offload", 0, True),
        ("fsdp2", 1 << 30, False),
        ("ddp", 0, False),
    ):
        facts = planned("qlora", sharding, tiny["causal-lm"], memory_bytes=memory)
        told = {configs.axolotl_refusal(facts), configs.factory_refusal(facts)}
        assert len(told) == 1 and ("on each card" in told.pop()) == refused
    assert not configs.factory_refusal(planned("lora", "fsdp2", tiny["causal-lm"], memory_bytes=0))


def test_packed_rows_are_packed_alike_by_other_tools_or_it_is_said_why_not(tiny: dict[str, str]) -> None:
    facts = planned("lora", "ddp", tiny["causal-lm"], packed=True)
    theirs = configs.axolotl(facts, "LlamaDecoderLayer"), configs.llama_factory(facts)
    first, second = (yaml.safe_load(text) for text in theirs)
    assert (first["sample_packing"], first["attn_implementation"]) == (True, "sdpa")
    assert (second["packing"], second["neat_packing"], second["flash_attn"]) == (True, True, "sdpa")
    assert not any(configs.PADDED in text for text in theirs)
    texts = replace(facts, objective="cpt")
    assert configs.factory_refusal(texts) and not configs.axolotl_refusal(texts)
    assert not configs.factory_refusal(replace(texts, plan=replace(texts.plan, packed=False)))


def test_llama_factory_is_told_the_plan(tiny: dict[str, str]) -> None:
    facts = planned("qlora", "ddp", tiny["causal-lm"])
    found = yaml.safe_load(configs.llama_factory(facts))
    assert (found["finetuning_type"], found["quantization_bit"], found["cutoff_len"]) == ("lora", 4, 32)
    assert found["disable_gradient_checkpointing"] is True
    assert found["template"] == "fewshot", (
        "`default` writes Human and Assistant round rows, `empty` no end token"
    )
    assert "not packed" in configs.llama_factory(facts).splitlines()[0]
    full = yaml.safe_load(configs.llama_factory(planned("full", "fsdp2", tiny["causal-lm"])))
    assert full["finetuning_type"] == "full" and "lora_rank" not in full


def test_layers_are_checkpointed_by_one_of_those_who_could(tiny: dict[str, str]) -> None:
    """accelerate and LLaMA-Factory each wrap a layer where they are told to: with both it is made three times."""
    for sharding in ("none", "ddp", "fsdp2"):
        facts = planned("lora", sharding, tiny["causal-lm"], checkpointing=True)
        theirs = yaml.safe_load(configs.accelerate(facts, "LlamaDecoderLayer")).get("fsdp_config", {})
        own = not yaml.safe_load(configs.llama_factory(facts))["disable_gradient_checkpointing"]
        assert own + theirs.get("fsdp_activation_checkpointing", False) == 1, sharding


def test_both_tools_read_the_same_preferences(tiny: dict[str, str]) -> None:
    facts = replace(planned("lora", "ddp", tiny["causal-lm"]), objective="preference")
    row = {"prompt": "Which is longer?", "chosen": "The first.", "rejected": "Neither."}
    assert set(json.loads(_dataset("preference"))["rows"]["columns"].values()) == set(row)
    (asked,) = yaml.safe_load(configs.axolotl(facts, ""))["datasets"]
    # with a mapping as type Axolotl fills each format from the column that its field names
    read = {
        name: asked["type"][f"{name}_format"].format(**{name: row[asked["type"][f"field_{name}"]]})
        for name in row
    }
    assert read == row


def test_what_a_file_is_started_with_is_there(tiny: dict[str, str]) -> None:
    """LLaMA-Factory splits a model with accelerate's config, also of a training that the script does not do."""
    wanted = asdict(Wanted(model=tiny["causal-lm"], objective="preference", devices=2, seq=32))
    for sharding in ("fsdp2", "ddp"):
        facts = planned("lora", sharding, tiny["causal-lm"], checkpointing=True)
        found = write(wanted, Planned(Candidate("lora", sharding, True), facts.plan))
        assert NAME in found.missing
        assert ("accelerate.yaml" in found.files["llama_factory.yaml"]) == (sharding == "fsdp2")
        assert ("accelerate.yaml" in found.files) == (sharding == "fsdp2")
    launched = configs.accelerate(facts, "", scripted=False).splitlines()[0]
    assert launched.endswith("-m llamafactory.launcher llama_factory.yaml") and NAME not in launched


def test_axolotl_has_no_file_where_it_keeps_weights_otherwise(tiny: dict[str, str]) -> None:
    model = tiny["causal-lm"]
    for sharding, kept, reason in [
        ("none", "float32", configs.NARROW), ("ddp", "float32", configs.NARROW), ("ddp", "bfloat16", ""),
        ("fsdp2", "float32", ""), ("fsdp2", "bfloat16", configs.WIDE),
    ]:  # fmt: skip
        facts = planned("full", sharding, model, remembered=kept)
        assert configs.axolotl_refusal(facts) == reason and not configs.factory_refusal(facts)
        told = yaml.safe_load(configs.llama_factory(facts))
        assert told["pure_bf16"] == (kept == "bfloat16") != told["bf16"], (
            "else accelerate widens what is split"
        )
    assert not configs.axolotl_refusal(planned("lora", "ddp", model))


def test_axolotl_has_no_file_for_preferences_of_a_split_base_in_4_bits(tiny: dict[str, str]) -> None:
    def refused(method: str, sharding: str, objective: str) -> str:
        facts = replace(
            planned(method, sharding, tiny["causal-lm"], memory_bytes=1 << 30), objective=objective
        )
        return configs.axolotl_refusal(facts)

    assert refused("qlora", "fsdp2", "preference") == configs.UNJUDGED
    others = ("qlora", "ddp", "preference"), ("lora", "fsdp2", "preference"), ("qlora", "fsdp2", "sft")
    assert not any(refused(*other) for other in others)
    facts = replace(
        planned("qlora", "fsdp2", tiny["causal-lm"], memory_bytes=1 << 30), objective="preference"
    )
    assert not configs.factory_refusal(facts)


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
