"""Plans with tensor parallelism: what is tried, what one says, what its script reads, and how it is drawn."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from peft_lab.plan import configs, moments, ranking, script
from peft_lab.plan.files import write
from peft_lab.plan.ranking import Candidate
from peft_lab.plan.wanted import Wanted
from peft_lab.ui.plan import ranks
from tests.plan.test_script import planned

ASKED = {"model": "smollm2-135m", "gpu": "rtx-4090", "rows": 300, "row_tokens": 60, "seq": 64}


def tried(devices: int) -> list[Candidate]:
    found = ranking.candidates(Wanted(**ASKED, devices=devices).check())  # type: ignore[arg-type]
    return [one for one in found if one.sharding == "tp"]


def test_it_is_tried_once_where_it_cannot_be_to_say_why() -> None:
    assert not tried(1)
    every = [("full", True), ("full", False), ("lora", True), ("lora", False)]
    assert [(one.method, one.checkpointing) for one in tried(3)] == every
    assert [(one.method, one.checkpointing) for one in tried(2)] == [("full", True), ("lora", True)]
    assert tried(3)[2].title == "LoRA, tensor parallel, checkpointed"


def test_all_ranks_of_a_script_read_the_same_rows(tiny: dict[str, str]) -> None:
    text = script.script(planned("lora", "tp", tiny["causal-lm"]))
    other = script.script(planned("lora", "fsdp2", tiny["causal-lm"]))
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
    assert "tp" in moments.KINDS
    for phase in moments.PHASES:
        assert ranks.does(phase, "tp") != ranks.does(phase, "fsdp2")
    assert "same rows" in ranks.does("forward", "tp")


@pytest.mark.further
@pytest.mark.slow
def test_a_plan_says_what_its_ranks_wait_for_and_brings_its_script() -> None:
    wanted = Wanted(**ASKED, devices=3, price=1.0).check()  # type: ignore[arg-type]
    one = ranking.evaluate(asdict(wanted), asdict(Candidate("lora", "tp", True)))
    assert one.plan is not None and one.plan.readers == 1 and one.plan.devices == 3
    alone = ranking.evaluate(asdict(wanted), asdict(Candidate("lora", "ddp", True)))
    assert alone.plan is not None and one.plan.needed_bytes < alone.plan.needed_bytes
    assert one.update is not None and one.update.parts["link"] > 0 and one.hours and one.cost
    assert one.cost[1] == pytest.approx(3 * one.hours[1])
    written = write(asdict(wanted), one)
    assert "split_matrices(model, mesh, device)" in written.files["train.py"]
    assert "torchrun --nproc-per-node 3" in written.files["skypilot.yaml"]
    assert list(written.reasons.values()) == [("axolotl.yaml", "llama_factory.yaml")]
    refused = ranking.evaluate(asdict(wanted) | {"devices": 2}, asdict(Candidate("lora", "tp", True)))
    assert refused.plan is None and "9 heads, which 2 devices cannot share" in refused.reason
