"""What is meant by a question that cannot be, in whatever field and by however many of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.advise.plans import ranking, steps
from peft_lab.advise.plans.nearest import (
    OF_RANK,
    PlanRequest,
    Unread,
    ask,
    meant,
    meeting,
    mend,
    nearest,
    need,
    quickest,
    too_late,
    until_deadline,
)
from peft_lab.advise.plans.ranking import UNKNOWN, Candidate, Planned
from peft_lab.advise.plans.steps import Pace
from peft_lab.advise.plans.wanted import KEYS, Wanted
from peft_lab.advise.recipes.rules import OBJECTIVES
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import Step
from peft_lab.advise.situation import Situation
from peft_lab.engine.devices import devices
from peft_lab.engine.timing.estimate import Seconds
from peft_lab.models.catalogue import readers_of_text
from tests.advise import standin
from tests.prose import says

#: One value of each field that cannot be.
BROKEN = {
    "model": "lama-3.1-8b", "objective": "magic", "rows": "ten", "row_tokens": "many", "seq": "-1", "gpu": "gtx-1",
    "devices": "0", "link": "string", "price": "free", "deadline": "2020-01-01", "also": "dora", "optimizer": "adam",
    "packed": "some", "precision": "half", "adapter_dtype": "int8",
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_one_broken_field_is_mended_and_the_others_are_kept(name: str) -> None:
    told = {
        "model": "smollm2-135m",
        "rows": "500",
        "row_tokens": "100",
        "seq": "256",
        "gpu": "t4",
        "price": "0.5",
    }
    found = mend(ask({**told, name: BROKEN[name]}))
    ((error, instead),) = found.each
    assert error.field == name and instead is not None and found.several == [instead]
    assert not found.asked.problems()
    whole = ask(told).wanted
    for other in KEYS:
        if other not in instead.changes:
            assert getattr(found.asked.wanted, other) == getattr(whole, other), other


def test_all_broken_at_once_is_one_question() -> None:
    found = mend(ask(BROKEN))
    assert {error.field for error, _ in found.each} == set(BROKEN)
    assert all(instead is not None for _, instead in found.each), found.each
    assert found.several and found.asked.wanted.check() == found.asked.wanted


@pytest.mark.parametrize(
    ("told", "changes"),
    [
        ({"model": "bert-base", "seq": "600", "row_tokens": "100"}, {"seq": 512}),
        ({"model": "bert-base", "row_tokens": "600", "seq": "512"}, {"row_tokens": 512, "seq": 512}),
        ({"model": "bert-bse", "row_tokens": "9000"}, {"model": "bert-base", "row_tokens": 512, "seq": 512}),
        ({"gpu": "cpu", "devices": "2"}, {"gpu": "rtx-4090"}),
        ({"seq": "x", "row_tokens": "5000"}, {"seq": 8_192}),
    ],
)
def test_what_one_fields_mending_breaks_is_mended_too(told: dict[str, str], changes: dict[str, Any]) -> None:
    found = mend(ask(told))
    assert found.several is not None
    assert {name: value for one in found.several for name, value in one.changes.items()} == changes
    assert not found.asked.problems()


def test_what_is_put_right_is_no_longer_unread() -> None:
    asked = ask({"rows": "ten", "price": "free"})
    assert isinstance(asked.unread["rows"], Unread) and asked.text("rows") == "ten"
    mended = asked.put({"rows": 7})
    assert mended.wanted.rows == 7 and set(mended.unread) == {"price"}
    assert [error.field for error in mended.problems()] == ["price"]
    assert PlanRequest(Wanted(rows=0)).text("rows") == "0"


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
        ("gpu", "\N{GRINNING FACE}", {"gpu": "rtx-4090"}, "Known: rtx-3080"),
        ("rows", "0", {"rows": 1_000}, "LIMA"),
        ("devices", "0", {"devices": 1}, "one GPU"),
        ("row_tokens", "1500", {"seq": 2_048}, "2,048 tokens"),
        ("deadline", "2020-01-01", {"deadline": ""}, "no deadline"),
        ("row_tokens", "1.5k", {"row_tokens": 1_500, "seq": 2_048}, "rows cut to 2,048"),
        ("row_tokens", "999999", {"row_tokens": 131_072, "seq": 131_072}, "the longest here"),
        ("devices", "2 cards", {"devices": 2}, "2 GPUs"),
        ("price", "free", {"price": None}, "no cost"),
        ("price", "$1,200.50", {"price": 1_200.5}, "a price of 1200.5"),
        ("objective", "preferences", {"objective": "preference"}, "preference training"),
        ("link", "nvlnk", {"link": "nvlink"}, "NVLink"),
        ("optimizer", "adam", {"optimizer": "adamw"}, "AdamW"),
        ("also", "dora,ia3", {"also": "ia3"}, "IA"),
        ("packed", "many", {"packed": 0}, "padded"),
        ("model", "lama-3.1-8b", {"model": "llama-3.1-8b"}, "Llama 3.1 8B"),
        ("model", "dinov2-small", {"model": "llama-3.2-3b"}, "Llama 3.2 3B"),
    ],
)  # fmt: skip
def test_what_is_planned_instead(name: str, text: str, changes: dict[str, Any], said: str) -> None:
    found = meant(name, text)
    assert found is not None and found.changes == changes and said in f"{found.said} {found.hint}"
    assert replace(Wanted(), **found.changes).check()


GB = 10**9


def test_more_cards_another_card_and_a_smaller_model_come_with_their_plans() -> None:
    def ask(wanted: Wanted, candidate: Candidate) -> Planned:
        plan: Any = SimpleNamespace(host_bytes=0, needed_bytes=len(wanted.model) * GB)
        small = wanted.gpu != "rtx-4090" or wanted.model != "llama-3.1-70b"
        return Planned(candidate, plan if small or wanted.devices == 4 else None)

    ways = nearest(Wanted("llama-3.1-70b"), ask).ways
    assert [tuple(way.changes) for way in ways] == [("devices",), ("gpu", "devices"), ("model",)]
    assert ways[0].changes == {"devices": 4} and ways[0].short == "four cards"
    assert all(way.made is not None and way.made.plan is not None for way in ways)


@pytest.mark.slow
def test_the_parts_of_the_smallest_step_add_up_to_it() -> None:
    found = need(asdict(Wanted("llama-3.2-1b")), "qlora", 1)
    assert sum(found.parts.values()) == found.nbytes and set(found.parts) == {
        "weights",
        *OF_RANK,
        "activations",
    }
    assert all(size >= 0 for size in found.parts.values())
    assert found.parts["weights"] > found.nbytes / 4 and found.parts["adapter"] > 0
    assert not need(asdict(Wanted("llama-3.2-1b")), "full", 1).parts


CASES, EACH = 20, 2


def _pace(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, accumulate: int, trainable: int
) -> Pace:
    """What stands for the time of an update: in proportion to tokens and parameters."""
    del method, values, trainable
    one = step.batch * situation.seq * situation.shape.total / 1e14 + 0.01

    def took(seconds: float) -> Seconds:
        return Seconds(0.7 * seconds, seconds, 1.5 * seconds, "compute", {"compute": seconds})

    return Pace(took(one * accumulate), accumulate, 0.0, took(one / 3))


def _ask(wanted: Wanted, candidate: Candidate) -> Planned:
    return ranking.evaluate(asdict(wanted), asdict(candidate))


def _ranked(wanted: Wanted) -> list[Planned]:
    return ranking.rank(wanted, [_ask(wanted, one) for one in ranking.candidates(wanted)])


def _some(drawn: random.Random) -> Wanted:
    pick = drawn.choice
    cards = [name for name, card in devices().items() if card.kind == "cuda"]
    while True:
        hard = drawn.random() < 0.5
        tokens = pick([64, 512, 4096])
        wanted = Wanted(
            model=pick(["llama-3.1-70b", "llama-3.1-8b"] if hard else list(readers_of_text())),
            objective=pick(["", *OBJECTIVES]),
            rows=int(10 ** drawn.uniform(0, 7)),
            row_tokens=tokens,
            seq=tokens * pick([1, 2]),
            gpu=pick(["t4", "rtx-3060", "8GB"] if hard else cards),
            devices=pick([1, 1, 2, 3, 8]),
            link=pick(["pcie", "nvlink"]),
            deadline=pick(["", f"{10 ** drawn.uniform(-3, 4):.6f}"]),
            optimizer=pick(["", "", "adamw", "adamw8bit", "adafactor"]),
        )
        if not wanted.problems():
            return wanted


@pytest.mark.sampled(20)
@pytest.mark.parametrize("number", range(CASES))
def test_every_way_that_is_named_works(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def room_for(wanted: Wanted) -> Room:
        return Room(wanted.situation(), standin.ask, optimizer=wanted.optimizer, packed=bool(wanted.packed))

    monkeypatch.setattr(ranking, "room_for", room_for)
    monkeypatch.setattr(steps, "step_pace", _pace)
    drawn, named = random.Random(number), 0
    while named < EACH:
        wanted = _some(drawn)
        ranked = _ranked(wanted)
        best = quickest(ranked)
        if not ranked:
            ways = nearest(wanted, _ask).ways
        elif best is not None and too_late(wanted, ranked):
            ways = meeting(wanted, best, _ask)
            assert ways, "the deadline at least"
        else:
            continue
        named += bool(ways)
        for way in ways:
            there = replace(wanted, **way.changes).check()
            found = _ranked(there)
            assert found, (wanted, way)
            assert not ranked or not too_late(there, found), (wanted, way)
