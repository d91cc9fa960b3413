"""Plans with tensor parallelism: what is tried, what one says, what its script reads, and how it is drawn."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from peft_lab.advise.plans import configs, ranking, steps
from peft_lab.advise.plans.configs import write
from peft_lab.advise.plans.ranking import Candidate
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.ui.plan import page as ranks_module
from tests.advise.plans.test_script import CLOSE, planned, run
from tests.prose import says
from tests.takeaway.conftest import byte_tokenizer

ASKED = {"model": "smollm2-135m", "gpu": "rtx-4090", "rows": 300, "row_tokens": 60, "seq": 64}


def tried(devices: int, **more: Any) -> list[Candidate]:
    found = ranking.candidates(Wanted(**ASKED, devices=devices, **more).check())  # type: ignore[arg-type]
    return [one for one in found if one.sharding == "tp"]


def test_it_is_tried_once_where_it_cannot_be_to_say_why() -> None:
    assert not tried(1)
    every = [("full", True), ("full", False), ("lora", True), ("lora", False), ("qlora", True)]
    assert [(one.method, one.checkpointing) for one in tried(3)] == every
    once = [("full", True), ("lora", True), ("qlora", True)]
    assert [(one.method, one.checkpointing) for one in tried(2)] == once
    further = tried(3, also="ia3,prompt")
    assert [(one.method, one.checkpointing) for one in further if one.method in ("ia3", "prompt")] == [
        ("ia3", True), ("ia3", False), ("prompt", True), ("prompt", False)
    ]  # fmt: skip
    assert [(one.method, one.checkpointing) for one in tried(3, packed=290)] == every
    assert says(tried(3)[2].title, "LoRA", "tensor parallel", "checkpointed")


def test_all_ranks_of_a_script_read_the_same_rows(tiny: dict[str, str]) -> None:
    text = steps.script(planned("lora", "tp", tiny["causal-lm"]))
    other = steps.script(planned("lora", "fsdp2", tiny["causal-lm"]))
    assert "UPDATE = 4 " in text and "UPDATE = 8 " in other  # two rows at once, two passes, two ranks
    assert (
        text.count("shares(chosen, 0, 1, BATCH)") == 1
        and other.count("shares(chosen, RANK, WORLD, BATCH)") == 1
    )
    assert "predicted(parts, 1)" in text and "update_loss(model, parts, tokens, 1)" in text
    assert "set_seed(SEED)  # of dropout" in text and "set_seed(SEED + RANK)" in other
    assert "def split_matrices" in text and "def split_matrices" not in other
    assert "<" not in "".join(line for line in text.splitlines() if "shares(" in line)
    compile(text, "train.py", "exec")
    facts = planned("lora", "tp", tiny["causal-lm"])
    assert "10140" in configs.axolotl_refusal(facts)
    assert "distributed_type: MULTI_GPU" in configs.accelerate(facts, "")


def test_the_drawing_says_what_the_ranks_do_and_not_what_fsdp2_does() -> None:
    assert "tp" in ranking.MOMENT_KINDS
    for phase in ranking.PHASES:
        assert ranks_module.does(phase, "tp") != ranks_module.does(phase, "fsdp2")
    assert "same rows" in ranks_module.does("forward", "tp")


@pytest.mark.further
@pytest.mark.slow
def test_a_plan_says_what_its_ranks_wait_for_and_brings_its_script() -> None:
    wanted = Wanted(**ASKED, devices=3, price=1.0).check()  # type: ignore[arg-type]
    one = ranking.evaluate(asdict(wanted), asdict(Candidate("lora", "tp", True)))
    assert one.plan is not None and one.plan.readers == 1 and one.plan.devices == 3
    apart = ranking.evaluate(asdict(wanted), asdict(Candidate("lora", "ddp", True)))
    assert apart.plan is not None and apart.plan.readers == 3
    rows, of_three = (plan.batch * plan.readers * plan.accumulate for plan in (one.plan, apart.plan))
    assert abs(rows - of_three) < 3, "an update reads as many, all of them on every device or a third on each"
    assert one.update is not None and one.update.parts["link"] > 0 and one.hours and one.cost
    assert one.cost[1] == pytest.approx(3 * one.hours[1])
    written = write(asdict(wanted), one)
    assert "split_matrices(model, mesh, device)" in written.files["train.py"]
    assert "torchrun --nproc-per-node 3" in written.files["skypilot.yaml"]
    assert list(written.reasons.values()) == [("axolotl.yaml", "llama_factory.yaml")]
    refused = ranking.evaluate(asdict(wanted) | {"devices": 2}, asdict(Candidate("lora", "tp", True)))
    assert refused.plan is None and says(refused.reason, "9 heads", 2)


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a Llama whose maps have biases."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=300, max_position_embeddings=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=128, attention_bias=True, mlp_bias=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("biased")
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("method", "told", "changes"),
    [
        ("ia3", {}, {"checkpointing": True}),
        ("bitfit", {}, {}),
        ("prompt", {"num_virtual_tokens": 5}, {}),
        ("ptuning", {"num_virtual_tokens": 5}, {"checkpointing": True}),
        ("ptuning", {"num_virtual_tokens": 5, "version": "v2"}, {}),
        ("prefix", {"num_virtual_tokens": 5}, {}),
        ("adapters", {}, {"checkpointing": True}),
        ("lora", {"r": 4, "lora_dropout": 0.0}, {"packed": True}),
        ("full", {}, {"packed": True}),
    ],
)
def test_two_processes_learn_and_save_what_one_does(
    method: str,
    told: dict[str, Any],
    changes: dict[str, Any],
    tiny: dict[str, str],
    biased: str,
    rows_file: Path,
    tmp_path: Path,
) -> None:
    from safetensors.torch import load_file

    model = biased if method == "bitfit" else tiny["causal-lm"]
    facts = planned(method, "tp", model, accumulate=4, **changes)
    values = facts.method.require(facts.entry.shape, told)
    text = steps.script(planned(method, "tp", model, accumulate=4, **changes, values=values))
    alone, shared = run(text, tmp_path, rows_file, 1), run(text, tmp_path, rows_file, 2)
    assert alone[-1] != alone[0] and shared == pytest.approx(alone, abs=CLOSE)
    (name,) = {"full": ["model"]}.get(method, ["adapter_model"])
    one, two = (load_file(tmp_path / f"out-{ranks}" / f"{name}.safetensors") for ranks in (1, 2))
    if method == "full":  # of split matrices the tied head is written beside the embeddings
        assert two.pop("lm_head.weight").equal(two["model.embed_tokens.weight"])
    assert one.keys() == two.keys() and one
    assert {key: each.shape for key, each in one.items()} == {key: each.shape for key, each in two.items()}
    off = max(float((two[key] - each).abs().max()) for key, each in one.items())
    assert off < 1e-3  # of rates of 1e-2
