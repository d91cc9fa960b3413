"""A model that fits nowhere, and a deadline that no plan meets: one sentence, and the nearest that works."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.choose.room import Room
from peft_lab.choose.situation import Situation
from peft_lab.plan.nowhere import late, nearest
from peft_lab.plan.ranking import Candidate, Planned
from peft_lab.plan.verdict import short
from peft_lab.plan.wanted import Wanted

GB = 10**9


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        ({(2, "fsdp2+offload"), (8, "fsdp2")}, "over 2 of these cards with FSDP2, offloaded to 21.0 GB of main memory"),
        ({(4, "fsdp2"), (4, "fsdp2+offload")}, "over 4 of these cards with FSDP2."),
    ],
)  # fmt: skip
def test_the_fewest_cards_are_named_also_where_they_need_main_memory(
    fits: set[tuple[int, str]], said: str
) -> None:
    def ask(wanted: Wanted, candidate: Candidate) -> Planned:
        plan: Any = SimpleNamespace(host_bytes=21 * GB)
        return Planned(candidate, plan if (wanted.devices, candidate.sharding) in fits else None)

    sentence = nearest(Wanted("llama-3.1-70b"), ask)
    assert said in sentence and "fits in no way on GeForce RTX 4090" in sentence and "\n" not in sentence


def test_a_deadline_that_none_meets_names_the_quickest() -> None:
    slow: Any = SimpleNamespace(hours=(4.0, 8.0), title="LoRA")
    quick: Any = SimpleNamespace(hours=(2.0, 3.0), title="QLoRA")
    unknown: Any = SimpleNamespace(hours=None, title="IA3")
    assert "within 1 hours. The quickest, QLoRA, takes 2.0 to 3.0 h." in late(
        Wanted(deadline="1"), [slow, quick, unknown]
    )
    assert late(Wanted(deadline="5"), [slow, quick]) == late(Wanted(), [slow]) == ""
    assert late(Wanted(deadline="1"), [unknown]) == "", "of what takes nobody knows how long nothing is said"


def test_what_does_not_fit_says_how_full_fine_tuning_keeps_its_weights() -> None:
    """Split weights are kept in 32 bits and others in 16 where they must be: without that, more cards need more."""
    situation = Situation(model="llama-3.1-8b", device="rtx-4090", devices=2)
    room = Room(situation, lambda _: lambda *_: 0)
    split, each, lora = (
        short(room, situation, method, kind, 92 * GB)
        for method, kind in (("full", "fsdp2"), ("full", "ddp"), ("lora", "fsdp2"))
    )
    assert "with AdamW and weights kept in float32;" in split and "kept in bfloat16;" in each
    assert "kept" not in lora
