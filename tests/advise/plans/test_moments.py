"""The moving drawing of the ranks where something waits in main memory: its lane, its arrows, what is said of it."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st

from peft_lab.advise.plans.ranking import (
    AWAY,
    MOMENT_KINDS,
    OFFLOADED,
    PARTS,
    PHASES,
    Candidate,
    Drawn,
    Moment,
    kind_of,
    moments,
)
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.core import units
from peft_lab.ui.plan import chosen as shown_plans
from peft_lab.ui.plan import page as ranks
from tests.prose import says

WANTED = Wanted("smollm2-135m", rows=500, row_tokens=100, seq=128, devices=2)
GB = 10**9


def offloaded(devices: int = 2) -> Drawn:
    """Shares of 4 GB of weights and 2 of moments in main memory, which a rank with 3 GB at most computes with."""
    none = dict.fromkeys(PARTS, 0)
    here = none | {"activations": 2 * GB, "gathered": GB}
    still = none | {"weights": 4 * GB, "optimizer": 2 * GB}
    learned = still | {"gradients": GB}
    return Drawn(
        OFFLOADED, "full", devices,
        (
            Moment("zero_grad", none, still),
            Moment("forward", here, still, brought=4 * GB),
            Moment("backward", here, learned, brought=3 * GB, taken=GB),
            Moment("optimizer", none, learned),
        ),
    )  # fmt: skip


def phases_of(found: str) -> dict[str, str]:
    sections = re.findall(r"<section.*?</section>", found, re.DOTALL)
    return dict(zip(PHASES, sections, strict=True))


def test_main_memory_has_its_own_lane_on_the_ranks_scale() -> None:
    drawn = offloaded()
    for moment, section in zip(drawn.moments, phases_of(ranks.drawing(drawn)).values(), strict=True):
        bars = re.findall(
            r'<rect x="(\S+)" y="(\S+)" width="26" height="(\S+)" fill.*?<title>(.*?)</title>', section
        )
        tall = {(title, float(y) > lane_top(section)): float(height) for _, y, height, title in bars}
        assert len(bars) == 2 * sum(bool(size) for size in (*moment.parts.values(), *moment.host.values()))
        per_gb = {
            (title, below): height / float(title.split()[-2]) for (title, below), height in tall.items()
        }
        assert len({round(each, 1) for each in per_gb.values()}) == 1, per_gb
        assert section.count("main memory</text>") == 1
    assert "main memory" not in ranks.drawing(replace(drawn, kind="fsdp2", moments=bare(drawn)))


def bare(drawn: Drawn) -> tuple[Moment, ...]:
    return tuple(Moment(one.phase, {**one.parts, "weights": GB}) for one in drawn.moments)


def lane_top(section: str) -> float:
    (found,) = re.findall(r'class="memory" x="0.5" y="(\S+)"', section)
    return float(found)


def test_what_is_copied_each_way_is_said_with_its_bytes() -> None:
    drawn = offloaded(3)
    lines = {one.phase: ranks.lane_told(one) for one in drawn.moments}
    each, copied = lines["forward"]
    assert says(each, "6.00 GB", "main memory") and says(copied, "4.00 GB copied in")
    assert lines["backward"][1:] == ["3.00 GB copied in", "1.00 GB copied out"]
    section = phases_of(ranks.drawing(drawn))["backward"]
    (label,) = re.findall(r'aria-label="(.*?)"', section)
    assert says(label, "3.00 GB", "1.00 GB"), "who sees no bars is told as much"
    (alone,) = ranks.lane_told(Moment("optimizer", {}))
    assert says(alone, "nothing")


@pytest.mark.parametrize("kind", [OFFLOADED, AWAY])
def test_every_phase_has_its_own_sentence(kind: str) -> None:
    assert kind in MOMENT_KINDS
    for phase in PHASES:
        own = ranks.does(phase, kind)
        assert own == ranks._DOES[phase][kind]
    assert "main memory" in ranks.does("optimizer", OFFLOADED)
    assert "main memory" in ranks.does("forward", AWAY)


def test_the_plan_in_full_says_what_is_drawn_first() -> None:
    def planned(sharding: str, offload: bool = False, there: bool = True) -> Any:
        plan = SimpleNamespace(offload=offload) if there else None
        return SimpleNamespace(plan=plan, candidate=Candidate("lora", sharding, True))

    assert kind_of(None) == kind_of(planned("none", there=False)) == kind_of(planned("ddp")) == "fsdp2"
    assert kind_of(planned("fsdp2+offload")) == OFFLOADED and kind_of(planned("tp")) == "tp"
    assert kind_of(planned("none", True)) == kind_of(planned("ddp", True)) == AWAY


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_drawn_is_what_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands for the simulation: what lies in main memory is off the cards, and words have the same bytes."""
    said: list[str] = []
    monkeypatch.setattr(st, "markdown", said.append)
    drawn = {kind: moments(asdict(WANTED), "lora", kind, True) for kind in ("fsdp2", OFFLOADED, "ddp", AWAY)}
    at = {kind: {one.phase: one for one in found.moments} for kind, found in drawn.items()}
    off = at[OFFLOADED]
    for phase in PHASES:
        assert off[phase].parts["optimizer"] == 0 and off[phase].parts["weights"] < 10_000, "buffers alone"
        kept = at["fsdp2"][phase].parts
        for part in ("weights", "adapter", "optimizer"):
            assert off[phase].host[part] == pytest.approx(kept[part], rel=0.01), (phase, part)
        assert not at["fsdp2"][phase].waiting and not at["ddp"][phase].waiting
    assert off["optimizer"].total < off["forward"].total, "the cards have nothing to do"
    away = at[AWAY]
    assert drawn[AWAY].checkpointing and away["forward"].layers == 30 * 128 * 576 * 2, "30 layers' inputs"
    assert away["backward"].total < at["ddp"]["backward"].total
    assert away["zero_grad"].waiting == away["optimizer"].waiting == 0
    shown_plans.why_refused(drawn[AWAY], drawn["ddp"])
    (line,) = [one for one in said if one.startswith("**Activations are stored in main memory")]
    assert units.size(away["forward"].taken) in line and "the 30 layers" in line
    assert not any("not sharded" in one for one in said)
    shown_plans.why_refused(drawn[OFFLOADED], drawn["ddp"])
    (line,) = [one for one in said if one.startswith("**Shards are stored in main memory**")]
    assert units.size(off["backward"].taken) in line and units.size(off["optimizer"].waiting) in line
