"""The page Plan, through the app: plans come one by one, can be stopped, and its address keeps every input."""

from __future__ import annotations

import re
import time
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from peft_lab.advise.plans.nearest import Need
from peft_lab.advise.plans.ranking import (
    AWAY,
    OFFLOADED,
    PARTS,
    PHASES,
    Drawn,
    Moment,
    moments,
)
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.situation import Situation
from peft_lab.core import units
from peft_lab.core.errors import Unsupported
from peft_lab.ui.choose.outcome import planned, way_back
from peft_lab.ui.components import figures, waiting
from peft_lab.ui.plan import page, verdict
from peft_lab.ui.plan import page as ranks
from tests.advise.plans.conftest import read
from tests.prose import says
from tests.ui.badges import without_badge
from tests.ui.test_choose import told
from tests.waits import SECONDS

ROOT = Path(__file__).parents[3]
SMALL = {
    "model": "smollm2-135m",
    "gpu": "rtx-4090",
    "rows": "500",
    "row_tokens": "100",
    "seq": "128",
    "price": "0.5",
}


def opened(**address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    for name, value in address.items():
        app.query_params[name] = value
    app.switch_page("pages/plan.py")
    app.run()
    assert not app.exception
    return app


def settled(app: AppTest, text: str) -> AppTest:
    until = time.monotonic() + SECONDS
    while (
        text
        not in told(app)
        + "".join(one.proto.body for one in app.get("html"))
        + "".join(one.value for one in app.code)
        and time.monotonic() < until
    ):
        time.sleep(0.5)
        app.run()
        assert not app.exception
    return app


def _rows(app: AppTest) -> Any:
    return next(one for one in app.number_input if one.label == "Training rows")


def test_a_file_of_lengths_sets_the_rows_once_and_what_is_typed_then_holds() -> None:
    app = opened(**SMALL)
    app.file_uploader(key="plan-lengths").upload("rows.txt", b"100\n300\n200\n", "text/plain")
    app.run()
    assert not app.exception
    rows = next(item for item in app.number_input if item.label == "Training rows")
    assert (rows.value, app.query_params["rows"]) == (3, "3")
    assert (app.query_params["row_tokens"], app.query_params["seq"]) == ("200", "300")
    next(item for item in app.toggle if item.label == "Pack short rows").set_value(True).run()
    assert any(one.value.startswith("3 rows fit into 2 sequences of 300 tokens") for one in app.caption)
    assert app.query_params["packed"] == "2"
    rows.set_value(40).run()
    rows = next(item for item in app.number_input if item.label == "Training rows")
    assert (rows.value, app.query_params["rows"]) == (40, "40")
    assert app.query_params["row_tokens"] == "200"
    assert any(one.value.startswith("The rows have changed") for one in app.caption)


@pytest.mark.slow
def test_plans_are_ranked_with_badges_files_and_the_ranks_drawing() -> None:
    app = settled(settled(opened(**SMALL), "plans that fit"), "#### The files")
    app = settled(app, "Activations are not sharded")
    assert "## LoRA on one RTX 4090" in told(app) and "**Runner-up:** Full fine-tuning" in told(app)
    assert "**Bottleneck:" in told(app) and "**Quality.** Unknown" in told(app)
    seen, without = without_badge(app)
    assert seen and not without
    usual = {"gpu": Wanted().gpu}  # an address says what differs
    assert dict(app.query_params) | usual == SMALL


#: A value of each field that cannot be, as an address has it, what its control shows, what is said of it, the button
#: that mends it, and what the address says then.
BROKEN = [
    ("rows", "ten", "ten", "'ten' is not", "plan-way-rows", "1000"),
    ("price", "-2", -2.0, "Price must be above 0", "plan-way-price-none", None),
    ("deadline", "2020-01-01", "2020-01-01", "The deadline has passed", "plan-way-deadline-none", None),
    ("also", "dora,ia3", ["dora", "ia3"], "called 'dora'", "plan-way-also", "ia3"),
    ("model", "smollm-135m", "smollm-135m", "Did you mean 'smollm2-135m'", "plan-way-model", "smollm2-135m"),
    ("packed", "many", None, "'many' is not", "plan-way-packed-none", None),
]
_LABELS = {
    "rows": "Training rows", "price": "Price per GPU-hour", "deadline": "Must be done in", "also": "Also rank",
    "model": "Model",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "shows", "said", "button", "then"), BROKEN, ids=lambda one: str(one)[:12]
)
def test_what_an_address_says_wrong_is_shown_said_planned_and_mended(
    name: str,
    text: str,
    shows: Any,
    said: str,
    button: str,
    then: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when it is typed, and with all else that the address says."""
    planned: list[Wanted] = []

    def noted(wanted: Wanted, _: object) -> None:
        planned.append(wanted)

    monkeypatch.setattr(page, "_plans", noted)
    monkeypatch.setattr(page, "_ranks", noted)
    told_ = SMALL | {name: text}
    app = opened(**told_)
    assert said in told(app) and "The default is used" not in told(app) and "Planned here" in told(app)
    assert dict(app.query_params) | {"gpu": told_["gpu"]} == told_, "copied, it opens the same"
    if shows is not None:
        (field,) = [
            one
            for one in (*app.number_input, *app.text_input, *app.selectbox, *app.multiselect)
            if one.label == _LABELS[name]
        ]
        assert shows in (
            field.value,
            field.placeholder if name in ("rows", "row_tokens", "seq", "price") else None,
        )
    assert planned and not planned[-1].problems()
    at = getattr(planned[-1], name)
    app.button(key=button).click().run()
    assert not app.exception and said not in told(app)
    assert getattr(planned[-1], name) == at, "what was planned is what is taken up"
    usual = {"gpu": SMALL["gpu"]}  # an address says what differs
    kept = {other: value for other, value in SMALL.items() if other != name}
    assert usual | dict(app.query_params) == usual | kept | ({} if then is None else {name: then})


def test_of_several_fields_that_cannot_be_each_is_said_and_one_plan_is_for_all() -> None:
    app = opened(**SMALL)
    _rows(app).set_value(0).run()
    (field,) = [one for one in app.text_input if one.label == "Must be done in"]
    field.set_value("2020-01-01").run()
    for message in ("Training rows must be", "The deadline has passed"):
        assert told(app).count(message) == 1
    planned_here = [one.value for one in app.markdown if one.value.startswith("Planned here")]
    assert len(planned_here) == 1 and "no deadline" in planned_here[0] and "1,000 rows" in planned_here[0]
    app.button(key="plan-way-deadline-none").click().run()
    assert "Training rows must be" in told(app) and "The deadline has passed" not in told(app)
    app.button(key="plan-way-rows").click().run()
    assert "Training rows must be" not in told(app) and app.query_params["rows"] == "1000"


def test_it_can_be_stopped_and_goes_on() -> None:
    app = opened(**SMALL | {"seq": "64", "row_tokens": "48"})
    if not any(button.key == "plan-stop" for button in app.button):
        pytest.skip("all plans were there at once")
    app.button(key="plan-stop").click().run()
    assert app.button(key="plan-stop").label == "Continue"
    app.button(key="plan-stop").click().run()
    assert not any(button.key == "plan-stop" and button.label == "Continue" for button in app.button)


def test_choose_hands_its_situation_over() -> None:
    situation = Situation(model="llama-3.1-8b", device="rtx-4090", devices=2, link="nvlink", rows=3000)
    wanted = read(planned(situation))
    there = wanted.situation()
    for name in ("model", "device", "devices", "link", "rows", "seq"):
        assert getattr(there, name) == getattr(situation, name)
    assert read(planned(situation, "ia3")).further == ("ia3",) and read(planned(situation, "lora")).also == ""


@pytest.mark.slow
def test_the_way_from_choose_opens_its_method_and_leads_back() -> None:
    situation = Situation(
        model="smollm2-135m", device="rtx-4090", rows=500, seq=128, row_tokens=100, tasks=20, serving="vllm"
    )
    app = settled(opened(**planned(situation, "ia3"), **way_back(situation, "ia3")), "plans that fit")
    assert any(line.startswith("## IA³ on") for line in told(app).split("\n"))
    (link,) = [one.proto.query_string for one in app.get("page_link") if one.proto.page == "choose"]
    again = Situation.parse(dict(parse_qsl(link)))[0]
    assert Situation(**{**asdict(Situation()), **again}) == replace(situation, objective="sft")


def test_the_drawing_has_a_bar_for_each_rank_and_stops() -> None:
    parts = {part: 10 * (number + 1) for number, part in enumerate(PARTS)}
    drawn = Drawn("fsdp2", "lora", 8, tuple(Moment(phase, parts) for phase in PHASES))
    found = page.drawing(drawn)
    assert found.count("<section") == len(PHASES)
    assert found.count("<rect") == len(PHASES) * page.MOST * len(PARTS)
    assert "prefers-reduced-motion" in page.CSS and f"{page.ROUNDS};" in page.CSS
    heights = [float(text) for text in re.findall(r'height="([\d.]+)"', found)]
    assert sum(heights[: len(PARTS)]) == pytest.approx(page.HEIGHT - 4, abs=0.1)


def test_what_to_buy_has_a_row_for_each_number_of_cards_from_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def submit(_: int, what: object, wanted: object, method: str, cards: int) -> Future[Need]:
        made = Future[Need]()
        if method == "full":
            made.set_exception(Unsupported("not here"))
        elif cards < 4:
            card = "L40S, 48 GB" if method == "qlora" else ""
            made.set_result(Need(method, cards, 42 * 10**9, card))
        return made

    shown: list[tuple[Any, ...]] = []
    said: list[str] = []
    monkeypatch.setattr(page, "get_pool", lambda: SimpleNamespace(submit=submit))
    monkeypatch.setattr(waiting, "come_back", lambda *_: None)
    monkeypatch.setattr(figures, "table", lambda *found, **_: shown.append(found))
    monkeypatch.setattr(st, "progress", lambda _, text: said.append(text))
    page.what_to_buy(Wanted())
    ((heads, rows),) = shown
    assert heads == ("Cards", "QLoRA", "LoRA", "Full fine-tuning")
    size = figures.unbroken("(42.0 GB)")
    assert rows[0] == ("1 card", f"L40S, 48 GB {size}", f"none here {size}", "not split")
    assert [row[0] for row in rows] == ["1 card", "2 cards", "4 cards", "8 cards"]
    assert rows[3][1:] == ("…", "…", "not split") and said == ["Simulating: 4 of 12 steps to go"]


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
    verdict.why_refused(drawn[AWAY], drawn["ddp"])
    (line,) = [one for one in said if one.startswith("**Activations are stored in main memory")]
    assert units.size(away["forward"].taken) in line and "the 30 layers" in line
    assert not any("not sharded" in one for one in said)
    verdict.why_refused(drawn[OFFLOADED], drawn["ddp"])
    (line,) = [one for one in said if one.startswith("**Shards are stored in main memory**")]
    assert units.size(off["backward"].taken) in line and units.size(off["optimizer"].waiting) in line
