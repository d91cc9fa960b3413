"""Where nothing fits: what would make it fit as data with bars, and what of a step no setting can shrink."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.advise.plans.nearest import OF_RANK, nearest, need
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.ui.plan import verdict

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


def test_the_bar_shows_every_part_and_where_the_card_ends() -> None:
    parts = {"weights": 30 * GB, "adapter": 2 * GB, "activations": 8 * GB}
    drawn = verdict._over(parts, 20 * GB, 40 * GB, named=True)
    assert [drawn.count(f'style="width:{share}%') for share in ("75.00", "5.00", "20.00")] == [1, 1, 1]
    assert "left:50.00%" in drawn and 'aria-label="20.0 GB of 40.0 GB"' in drawn and "8.00 GB" in drawn


def _options() -> None:
    from types import SimpleNamespace

    from peft_lab.advise.plans.nearest import Nearest, Way
    from peft_lab.ui.plan import verdict

    def made(needed: int, hours: tuple[float, float] | None) -> object:
        return SimpleNamespace(
            plan=SimpleNamespace(needed_bytes=needed, memory_bytes=24 * 10**9), hours=hours
        )

    ways = (
        Way("QLoRA split over 2", "two cards", {"devices": 2}, made(16 * 10**9, (5.0, 10.0))),  # type: ignore[arg-type]
        Way("QLoRA of Llama 3.1 8B", "Llama 3.1 8B", {"model": "llama-3.1-8b"}, made(12 * 10**9, None)),  # type: ignore[arg-type]
    )
    verdict.would_fit(Nearest("It does not fit.", ways))


def test_each_option_has_its_memory_its_time_and_a_button_the_first_the_main_one() -> None:
    app = AppTest.from_function(_options).run()
    assert not app.exception
    assert [(button.label, button.proto.type) for button in app.button] == [
        ("Use two cards", "primary"), ("Use Llama 3.1 8B", "secondary"),
    ]  # fmt: skip
    first, second = (one.proto.body for one in app.get("html"))
    assert 'aria-label="16.0 GB of 24.0 GB"' in first and "width:66.7%" in first and "10" in first
    assert "width:50.0%" in second and "·" not in second, "no time is known"
