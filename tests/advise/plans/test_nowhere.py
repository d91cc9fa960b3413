"""A model that fits nowhere, and a deadline that no plan meets: one sentence, and the nearest that works."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.advise.plans.nearest import meant, meeting, nearest, together, too_late, until_deadline
from peft_lab.advise.plans.ranking import UNKNOWN, Candidate, Planned
from peft_lab.advise.plans.steps import short
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.room import Room
from peft_lab.advise.situation import Situation
from peft_lab.core import limits
from tests.prose import says

GB = 10**9


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        ({(2, "fsdp2+offload"), (8, "fsdp2")}, "FSDP2, each"),
        ({(4, "fsdp2"), (4, "fsdp2+offload")}, "4 of"),
    ],
)  # fmt: skip
def test_the_fewest_cards_are_named_also_where_they_need_main_memory(
    fits: set[tuple[int, str]], said: str
) -> None:
    def ask(wanted: Wanted, candidate: Candidate) -> Planned:
        plan: Any = SimpleNamespace(host_bytes=21 * GB)
        return Planned(candidate, plan if (wanted.devices, candidate.sharding) in fits else None)

    found = nearest(Wanted("llama-3.1-70b"), ask)
    sentence = str(found)
    assert found.told().endswith(f"(--devices {found.ways[0].changes['devices']}).")
    assert said in sentence and "RTX 4090" in sentence and "\n" not in sentence


def test_a_deadline_that_none_meets_names_the_quickest() -> None:
    slow: Any = SimpleNamespace(hours=(4.0, 8.0), title="LoRA")
    quick: Any = SimpleNamespace(hours=(2.0, 3.0), title="QLoRA")
    unknown: Any = SimpleNamespace(hours=None, title="IA3")
    assert says(too_late(Wanted(deadline="1"), [slow, quick, unknown]), "1 hour", "QLoRA", "2.0 to 3.0 h")
    assert too_late(Wanted(deadline="5"), [slow, quick]) == too_late(Wanted(), [slow]) == ""
    assert too_late(Wanted(deadline="1"), [unknown]) == "", (
        "of what takes nobody knows how long nothing is said"
    )


def takes(low: float, high: float, candidate: Candidate, needed: int = 20 * GB) -> Any:
    """A plan that takes from ``low`` to ``high`` hours."""
    plan = SimpleNamespace(needed_bytes=needed, host_bytes=0, headroom=0.1)
    return SimpleNamespace(
        hours=(low, high), cost=None, title=candidate.title, plan=plan, candidate=candidate, quality=UNKNOWN,
        rounds=False,
    )  # fmt: skip


@pytest.mark.parametrize("hours", [0.04, 9.95, 10.0, 12.4, 999_999.5, 234_571.2, 987_654.3])
def test_the_deadline_that_is_named_is_met(hours: float) -> None:
    """Six digits were written of it, with which a long training ended after it."""
    way = until_deadline(takes(hours / 2, hours, Candidate("lora", "none", False)))
    assert Wanted(**way.changes).hours() >= hours  # type: ignore[operator]


def test_what_would_meet_a_deadline_is_tried() -> None:
    """Time is in proportion to rows, less a tenth for each further card, and small numbers of rows are read twice."""

    def ask(wanted: Wanted, candidate: Candidate) -> Planned:
        passes = 2 if wanted.rows < 5_000 else 1
        hours = 4 * passes * wanted.rows / 10_000 / wanted.devices * (1 + 0.1 * (wanted.devices - 1))
        made: Planned = takes(hours / 2, hours, candidate)
        return made

    best = Candidate("qlora", "none", False)
    wanted = Wanted(deadline="1.5")
    ways = meeting(wanted, ask(wanted, best), ask)
    assert [dict(way.changes) for way in ways] == [{"devices": 4}, {"rows": 1_800}, {"deadline": "4"}]
    assert ask(replace(wanted, rows=1_800), best).hours[1] <= 1.5  # type: ignore[index]
    assert "QLoRA, DDP takes" in ways[0].text and "1,800 of the 10,000 rows" in ways[1].text
    packed = meeting(replace(wanted, packed=500), ask(wanted, best), ask)
    assert [list(way.changes) for way in packed] == [["devices"], ["deadline"]]
    hopeless = meeting(Wanted(deadline="0.0001"), ask(wanted, best), ask)
    assert {"deadline": "4"} in [way.changes for way in hopeless] and all(
        "devices" not in way.changes for way in hopeless
    )


@pytest.mark.parametrize(
    ("name", "text", "changes", "said"),
    [
        ("gpu", "RTX 2060", {"gpu": "rtx-3060"}, "such as 24GB"),
        ("gpu", "h1000", {"gpu": "h100"}, "names: h100"),
        ("gpu", "\N{GRINNING FACE}", {"gpu": "rtx-4090"}, "Known: rtx-3080"),
        ("rows", "0", {"rows": 1_000}, "LIMA"),
        ("rows", "99999999999", {"rows": 10**10}, "10,000,000,000"),
        ("devices", "0", {"devices": 1}, "one GPU"),
        ("row_tokens", "1500", {"seq": 2_048}, "2,048 tokens"),
        ("deadline", "2020-01-01", {"deadline": ""}, "no deadline"),
        ("rows", "10k", {"rows": 10_000}, "10,000 rows"),
        ("rows", "-5", {"rows": 1_000}, "LIMA"),
        ("row_tokens", "many", {"row_tokens": 512}, "rows of 512 tokens"),
        ("row_tokens", "1.5k", {"row_tokens": 1_500, "seq": 2_048}, "rows cut to 2,048"),
        ("row_tokens", "999999", {"row_tokens": 131_072, "seq": 131_072}, "the longest here"),
        ("seq", "x", {"seq": 512}, "rows cut to 512"),
        ("devices", "9999", {"devices": limits.DEVICES}, f"{limits.DEVICES:,} GPUs"),
        ("devices", "2 cards", {"devices": 2}, "2 GPUs"),
        ("price", "free", {"price": None}, "no cost"),
        ("price", "-2", {"price": None}, "no price"),
        ("price", "99999", {"price": None}, "no price"),
        ("price", "0,5", {"price": 0.5}, "a price of 0.5"),
        ("price", "$1,200.50", {"price": 1_200.5}, "a price of 1200.5"),
        ("price", "inf", {"price": None}, "no price"),
        ("objective", "preferences", {"objective": "preference"}, "preference training"),
        ("objective", "magic", {"objective": ""}, "this model"),
        ("link", "nvlnk", {"link": "nvlink"}, "NVLink"),
        ("link", "string", {"link": "pcie"}, "PCIe"),
        ("optimizer", "adam", {"optimizer": "adamw"}, "AdamW"),
        ("also", "dora,ia3", {"also": "ia3"}, "IA"),
        ("also", "dora", {"also": ""}, "usual methods"),
        ("packed", "many", {"packed": 0}, "padded"),
        ("model", "lama-3.1-8b", {"model": "llama-3.1-8b"}, "Llama 3.1 8B"),
        ("model", "nobody/mistral-7b", {"model": "mistral-7b"}, "Mistral 7B"),
        ("model", "dinov2-small", {"model": "llama-3.2-3b"}, "Llama 3.2 3B"),
    ],
)  # fmt: skip
def test_what_is_planned_instead(name: str, text: str, changes: dict[str, Any], said: str) -> None:
    found = meant(name, text)
    assert found is not None and found.changes == changes and said in f"{found.said} {found.hint}"
    assert replace(Wanted(), **found.changes).check()


def test_what_is_no_field_has_nothing_in_its_place() -> None:
    assert meant(None, "") is meant("method", "magic") is None


def test_what_is_meant_by_several_fields_is_one_plan() -> None:
    several = [meant("gpu", "rtx-2060"), meant("rows", "0"), meant("deadline", "-1")]
    every = together([one for one in several if one is not None])
    assert every.changes == {"gpu": "rtx-3060", "rows": 1_000, "deadline": ""}
    assert says(every.short, "RTX 3060", "12 GB", "1,000 rows", "no deadline")


def test_what_does_not_fit_says_how_full_fine_tuning_keeps_its_weights() -> None:
    """In the narrowest precision that the card multiplies."""
    said = dict[str, str]()
    for card in ("rtx-4090", "t4"):
        situation = Situation(model="llama-3.1-8b", device=card, devices=2)
        room = Room(situation, lambda _: lambda *_: 0)
        for kind in ("fsdp2", "ddp"):
            said[f"{card} {kind}"] = short(room, situation, "full", kind, 92 * GB)
        assert "kept" not in short(room, situation, "lora", "fsdp2", 92 * GB)
    assert all("kept in bfloat16;" in said[f"rtx-4090 {kind}"] for kind in ("fsdp2", "ddp"))
    assert says(said["t4 fsdp2"], "AdamW", "float32")


def test_one_is_one() -> None:
    assert meant("rows", "1") == meant("rows", "1.2")
    assert meant("rows", "1").said == "1 row"  # type: ignore[union-attr]
    assert meant("row_tokens", "1.2").short == "rows of 1 token"  # type: ignore[union-attr]
    hour: Any = SimpleNamespace(hours=(0.9, 1.0), title="LoRA")
    assert says(until_deadline(hour).short, "deadline", "1 hour")
    assert "; 1 row" in together([meant("gpu", "rtx-2060"), meant("rows", "1")]).said  # type: ignore[list-item]
