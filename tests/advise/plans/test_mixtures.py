"""Plans for mixtures of experts: what is adapted, what of a step is multiplied, and scripts that train."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from peft_lab.advise.plans import ranking, steps
from peft_lab.advise.plans.configs import axolotl_refusal
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.tree import ADVICE
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import work_of
from peft_lab.methods import get_method
from peft_lab.models import meta
from tests.advise.plans.test_script import CLOSE, planned, run
from tests.methods.mixtures import CONFIGS, EXPERTS, entry_of
from tests.takeaway.conftest import byte_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ("mixtral", "qwen2_moe", "qwen3_moe")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny mixtures with random weights and a byte-level tokenizer, by type."""
    import torch
    import transformers

    top, found = tmp_path_factory.mktemp("mixtures"), {}
    for name in NAMES:
        config = meta.make_config({**CONFIGS[name], "vocab_size": 300, "max_position_embeddings": 256})
        torch.manual_seed(3)
        model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.save_pretrained(top / name)
        byte_tokenizer().save_pretrained(top / name)
        found[name] = str(top / name)
    return found


@pytest.mark.parametrize("name", EXPERTS)
def test_every_linear_map_is_all_but_the_router_and_the_stacks_as_parameters(name: str) -> None:
    shape = entry_of(name).shape
    stacks = {group.path for group in shape.bare if group.stacked > 1}
    routers = {mixture.router for mixture in shape.mixtures}
    for advice in (one for one in ADVICE.values() if one.method in ("lora", "qlora")):
        if advice.values.get("target_modules", ("all-linear",)) != ("all-linear",):
            continue
        if advice.method == "lora" and "target_modules" not in advice.values:
            continue
        spec = get_method(advice.method)
        values = spec.require(shape, advice.knobs(shape))
        adapted = {part.at for part in spec.parts(shape, values) if part.kind == "low_rank"}
        assert stacks and stacks <= adapted, advice.id
        assert not adapted & {path for router in routers for path in (router, f"{router}.weight")}, advice.id


def multiplied(name: str, config: dict[str, Any], folder: Path, **setting: Any) -> int:
    """Operations of products in a step of full fine-tuning."""
    import json

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIGS[name], **config}), "utf-8")
    work = work_of(StepRequest(str(folder), "full", {}, StepSetting(2, 32, **setting)))
    products = ((op, count * piece.times) for piece in work for op, count in piece.ops if op.size)
    return sum(op.flops * count for op, count in products)


def test_the_step_multiplies_the_experts_that_are_used_and_no_others(tmp_path: Path) -> None:
    one = multiplied("mixtral", {"num_experts_per_tok": 1}, tmp_path / "one")
    two = multiplied("mixtral", {"num_experts_per_tok": 2}, tmp_path / "two")
    more = multiplied("mixtral", {"num_experts_per_tok": 2, "num_local_experts": 8}, tmp_path / "more")
    tokens, hidden, width, layers = 2 * 32, 64, 96, 2
    passes = 3  # forward, to the inputs, to the weights
    assert two - one == passes * layers * 2 * tokens * 3 * hidden * width, (
        "gate, up and down of one more expert"
    )
    routing = passes * layers * 2 * tokens * hidden * 4
    assert more - two == routing, "of experts that nobody is sent to, the router alone knows"


@pytest.mark.slow
def test_a_mixture_is_planned(folders: dict[str, str]) -> None:
    wanted = Wanted(folders["qwen3_moe"], "sft", 1000, 100, 128, "rtx-4090", 2)
    found = {one: ranking.evaluate(asdict(wanted), asdict(one)) for one in ranking.candidates(wanted)}
    by_way = {
        (one.method, one.sharding): planned
        for one, planned in found.items()
        if one.checkpointing or one.sharding == "tp"
    }
    for method, sharding in (
        ("lora", "ddp"),
        ("lora", "fsdp2"),
        ("full", "ddp"),
        ("full", "fsdp2"),
        ("qlora", "ddp"),
    ):
        plan = by_way[method, sharding]
        assert plan.plan is not None and plan.update is not None, plan.reason
        if method != "full":
            assert plan.plan.values["target_parameters"] == ("experts.gate_up_proj", "experts.down_proj")
    assert "experts" in by_way["lora", "tp"].reason and by_way["lora", "tp"].plan is None


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    ("name", "method", "sharding", "checkpointing"),
    [
        ("mixtral", "lora", "fsdp2", True),
        ("qwen3_moe", "lora", "ddp", False),
        ("mixtral", "full", "fsdp2", True),
        ("qwen3_moe", "lora", "fsdp2", False),
        ("qwen2_moe", "full", "ddp", False),
        ("mixtral", "qlora", "fsdp2", True),
        ("qwen2_moe", "lora", "fsdp2", True),
    ],
)
def test_the_script_trains_the_experts_alone_and_on_two_processes(
    name: str, method: str, sharding: str, checkpointing: bool, folders: dict[str, str], rows_file: Path, tmp_path: Path
) -> None:  # fmt: skip
    facts = planned(method, sharding, folders[name], checkpointing=checkpointing)
    if method != "full":
        shape = facts.entry.shape
        values = {**ADVICE["qlora"].knobs(shape), "r": 4, "lora_dropout": 0.0}
        facts = planned(
            method, sharding, folders[name], checkpointing=checkpointing,
            values=facts.method.require(shape, values),
        )  # fmt: skip
        assert "stacks of experts" in axolotl_refusal(facts)
    text = steps.script(facts)
    assert ("target_parameters" in text) == (method != "full")
    alone, shared = run(text, tmp_path, rows_file, 1), run(text, tmp_path, rows_file, 2)
    assert len(alone) == 3 and alone[-1] != alone[0]
    assert shared == pytest.approx(alone, abs=CLOSE)
