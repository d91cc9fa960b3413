"""The page Plan, through the app: plans come one by one, can be stopped, and its address keeps every input."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from peft_lab.advise.plans import ranking
from peft_lab.advise.plans.nearest import Need
from peft_lab.advise.plans.ranking import PARTS, PHASES, Drawn, Moment, quality
from peft_lab.advise.plans.wanted import TYPICAL, Wanted
from peft_lab.advise.situation import Situation
from peft_lab.core.errors import RunError, UnknownName, Unsupported
from peft_lab.ui.choose.outcome import planned, way_back
from peft_lab.ui.components import figures, waiting
from peft_lab.ui.plan import chosen as shown_plans
from peft_lab.ui.plan import page, verdict
from tests.advise.plans.reading import read
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


def test_what_two_tools_lack_for_one_reason_is_said_once() -> None:
    def drawn() -> None:
        from peft_lab.advise.plans.configs import Written
        from peft_lab.ui.plan.verdict import missing

        two = {"axolotl.yaml": "Both do not.", "llama_factory.yaml": "Both do not."}
        missing(Written({}, {"train.py": "It is not.", **two}))

    lines = [line.value for line in AppTest.from_function(drawn, default_timeout=SECONDS).run().caption]
    assert lines == ["No `train.py`: It is not.", "No `axolotl.yaml` or `llama_factory.yaml`: Both do not."]


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


def test_what_is_wrong_is_said_where_it_is() -> None:
    app = opened(**SMALL | {"gpu": "gtx-1", "rows": "0", "deadline": "2020-01-01T00:00"})
    lines = [line for line in told(app).split("\n") if line.startswith(":red[")]
    for message in (
        "no device called 'gtx-1'",
        "Training rows must be",
        "The deadline has passed",
    ):
        assert any(message in line for line in lines), message


#: A value of each field that cannot be, as an address has it, what its control shows, what is said of it, the button
#: that mends it, and what the address says then.
BROKEN = [
    ("gpu", "gtx-1", "gtx-1", "no device called 'gtx-1'", "plan-way-gpu", None),
    ("rows", "0", 0, "Training rows must be", "plan-way-rows", "1000"),
    ("rows", "-5", -5, "Training rows must be", "plan-way-rows", "1000"),
    ("rows", "ten", "ten", "'ten' is not", "plan-way-rows", "1000"),
    ("row_tokens", "many", "many", "'many' is not", "plan-way-row_tokens", "128"),
    ("row_tokens", "0", 0, "from 1 to", "plan-way-row_tokens", "128"),
    ("seq", "x", "x", "'x' is not", "plan-way-seq", "128"),
    ("devices", "0", 0, "Devices must be", "plan-way-devices", None),
    ("price", "-2", -2.0, "Price must be above 0", "plan-way-price-none", None),
    ("price", "free", "free", "'free' is not", "plan-way-price-none", None),
    ("price", "99999", 99_999.0, "at most 10,000", "plan-way-price-none", None),
    ("deadline", "2020-01-01", "2020-01-01", "The deadline has passed", "plan-way-deadline-none", None),
    ("objective", "magic", "magic", "no objective called 'magic'", "plan-way-objective-none", None),
    ("link", "nvlnk", "nvlnk", "no link called 'nvlnk'", "plan-way-link", "nvlink"),
    ("optimizer", "adam", "adam", "no optimizer called 'adam'", "plan-way-optimizer", "adamw"),
    ("also", "dora,ia3", ["dora", "ia3"], "called 'dora'", "plan-way-also", "ia3"),
    ("model", "smollm-135m", "smollm-135m", "Did you mean 'smollm2-135m'", "plan-way-model", "smollm2-135m"),
    ("packed", "many", None, "'many' is not", "plan-way-packed-none", None),
]
_LABELS = {
    "gpu": "Graphics card", "rows": "Training rows", "row_tokens": "Average length", "seq": "Maximum length",
    "devices": "How many", "price": "Price per GPU-hour", "deadline": "Must be done in",
    "objective": "What it should learn", "link": "Connected by", "optimizer": "Optimizer", "also": "Also rank",
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


def test_a_number_in_place_of_what_was_no_number_ends_the_matter() -> None:
    app = opened(**SMALL | {"rows": "ten", "price": "free"})
    (rows,) = [one for one in app.number_input if one.label == "Training rows"]
    assert rows.value is None and rows.placeholder == "ten"
    rows.set_value(700).run()
    assert "'ten' is not" not in told(app) and "'free' is not" in told(app)
    assert (app.query_params["rows"], app.query_params["price"]) == ("700", "free")


def test_what_has_no_control_is_said_at_the_foot() -> None:
    app = opened(**SMALL | {"buying": "perhaps", "method": "magic"})
    assert told(app).count("The default is used") == 2


def test_what_cannot_be_is_planned_as_it_is_meant_and_taken_up_with_a_click() -> None:
    app = opened(**SMALL)
    _rows(app).set_value(0).run()
    assert "Training rows must be" in told(app) and "1,000 rows, as many as in" in told(app)
    app.button(key="plan-way-rows").click().run()
    assert app.query_params["rows"] == "1000" and "Training rows must be" not in told(app)


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


def test_rows_longer_than_their_limit_are_cut_later_with_a_click() -> None:
    app = opened(**SMALL)
    (field,) = [one for one in app.number_input if one.label == "Average length"]
    field.set_value(200).run()
    assert "The average length (200 tokens) is above the maximum length (128)." in told(app)
    app.button(key="plan-way-seq").click().run()
    assert app.query_params["seq"] == "256" and "is above the maximum" not in told(app)


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.rest
def test_a_deadline_that_has_passed_or_is_too_short_is_planned_and_mended() -> None:
    app = opened(**SMALL)
    (field,) = [one for one in app.text_input if one.label == "Must be done in"]
    field.set_value("2020-01-01").run()
    assert "The deadline has passed" in told(app)
    assert app.button(key="plan-way-deadline-none").label == "Use no deadline"
    app = settled(app, "a deadline of")
    app.button(key="plan-way-deadline").click().run()
    app = settled(app, "plans that fit")
    assert "No plan is sure" not in told(app) and "The deadline has passed" not in told(app)
    (field,) = [one for one in app.text_input if one.label == "Must be done in"]
    field.set_value("0.0001").run()
    app = settled(app, "No plan is sure to finish within 0.0001 hours")
    app = settled(app, "The nearest plan that works")
    app.button(key="plan-way-deadline").click().run()
    assert float(app.query_params["deadline"]) > 0.0001
    app = settled(app, "plans that fit")
    assert "No plan is sure" not in told(app)


@pytest.mark.further
@pytest.mark.slow
def test_an_optimizer_is_chosen_and_says_where_it_does_not_work() -> None:
    app = opened(**SMALL | {"optimizer": "muon", "devices": "2"})
    (box,) = [one for one in app.selectbox if one.label == "Optimizer"]
    assert box.value == "muon" and app.query_params["optimizer"] == "muon"
    app = settled(app, "Muon needs whole matrices")
    # the plan that comes first until all are ranked may be one that no script does
    app = settled(settled(app, "plans that fit"), "MuonBesideAdamW(masters.parameters")
    assert any("MuonBesideAdamW(masters.parameters" in code.value for code in app.code)
    waits = "The estimated time does not include this wait"
    assert waits in "".join(one.value for one in opened(**SMALL, optimizer="adafactor").caption)
    assert not any(waits in one.value for one in app.caption)
    assert any("no optimizer called 'lion'" in line for line in told(opened(optimizer="lion")).split("\n"))


@pytest.mark.further
@pytest.mark.slow
def test_packed_rows_come_from_the_address_and_say_what_they_save() -> None:
    app = settled(opened(**SMALL | {"packed": "420"}), "plans that fit")
    (toggle,) = [one for one in app.toggle if one.label == "Pack short rows"]
    assert toggle.value and "500 rows fit into 420 sequences of 128 tokens" in "".join(
        one.value for one in app.caption
    )
    app = settled(app, "**Packed.**")
    app = settled(app, "collate_packed(")
    assert any("collate_packed(" in code.value for code in app.code)
    seen, without = without_badge(app)
    assert seen and not without
    assert app.query_params["packed"] == "420"
    toggle.set_value(False).run()
    assert "packed" not in app.query_params


def test_a_contradiction_is_one_sentence_and_the_nearest_is_planned() -> None:
    app = opened(model="bert-base", gpu="t4", seq="600", row_tokens="100")
    assert told(app).count("512 positions") == 1 and "Planned here: **rows cut to 512 tokens**" in told(app)
    app.button(key="plan-way-seq").click().run()
    assert "512 positions" not in told(app) and app.query_params["seq"] == "512"


def test_a_typical_question_is_one_click() -> None:
    app = opened(**SMALL)
    app.button(key="typical-long-rows").click().run()
    typical = next(one for one in TYPICAL if one.name == "long-rows")
    assert read(dict(app.query_params)).model == typical.wanted.model
    assert (app.query_params["seq"], app.query_params["price"]) == ("32768", "0.5")


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


def test_quality_of_a_further_method_is_that_of_a_published_training_or_unknown() -> None:
    known = Wanted("llama-3.2-3b", "sft", also="ia3,bitfit").check()
    assert quality(known, "ia3").accuracy and quality(known, "bitfit").accuracy is None
    assert {one.method for one in ranking.candidates(known)} == {"full", "lora", "qlora", "ia3"}
    assert "bitfit" in ranking.get_refusals(known), "this model has no biases"
    with pytest.raises(UnknownName, match="dora"):
        Wanted(also="dora").check()


def test_the_drawing_has_a_bar_for_each_rank_and_stops() -> None:
    parts = {part: 10 * (number + 1) for number, part in enumerate(PARTS)}
    drawn = Drawn("fsdp2", "lora", 8, tuple(Moment(phase, parts) for phase in PHASES))
    found = page.drawing(drawn)
    assert found.count("<section") == len(PHASES)
    assert found.count("<rect") == len(PHASES) * page.MOST * len(PARTS)
    assert "prefers-reduced-motion" in page.CSS and f"{page.ROUNDS};" in page.CSS
    heights = [float(text) for text in re.findall(r'height="([\d.]+)"', found)]
    assert sum(heights[: len(PARTS)]) == pytest.approx(page.HEIGHT - 4, abs=0.1)


def test_full_fine_tuning_is_drawn_with_its_precision_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drawing compares ways in one precision, which is not that of the plans beside it."""
    said: list[str] = []
    monkeypatch.setattr(st, "markdown", said.append)
    parts = dict.fromkeys(PARTS, 10)
    for method in ("full", "lora"):
        shown_plans.why_refused(
            Drawn("fsdp2", method, 2, tuple(Moment(phase, parts) for phase in PHASES)), None
        )
    assert [
        ("the weights in bfloat16" in line, "float32 if memory allows" in line)
        for line in said
        if "On each of" in line
    ] == [
        (True, True),
        (False, False),
    ]


def test_a_drawing_says_whether_its_step_is_checkpointed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the plan's is, whose bytes would not be those beside it."""
    moment = tuple(Moment(phase, dict.fromkeys(PARTS, 10)) for phase in PHASES)
    beside = Drawn("ddp", "lora", 2, moment)
    for again in (False, True):
        said: list[str] = []
        monkeypatch.setattr(st, "markdown", said.append)
        shown_plans.why_refused(Drawn("fsdp2", "lora", 2, moment, again), beside)
        assert any("a checkpointed step of LoRA" in line for line in said) is again
        assert any("or tokens, or checkpointing." in line for line in said) is not again


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("preference", "reference model is not included"),
        ("rl", "64 answers to each prompt. Generating and judging"),
        ("sft", ""),
    ],
)
def test_what_is_in_no_figure_is_said_beneath_the_plans(
    objective: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison's hours are without its reference, and rewards' without what is rewarded."""
    lines: list[str] = []
    monkeypatch.setattr(st, "caption", lines.append)
    shown_plans.notes(Wanted(model="smollm2-135m", objective=objective, adapter_dtype="float32"))
    assert len(lines) == (2 if said else 1) and said in lines[-1]


def test_without_a_price_the_hours_to_pay_for_are_told() -> None:
    plan = SimpleNamespace(devices=2)
    short = (0.021, 0.043)
    said = []
    for hours, cost in (
        ((1.5, 3.0), None), ((8.0, 16.0), None), (short, None), (None, None), ((1.5, 3.0), (3.0, 6.0)),
        ((0.003, 0.006), None),
    ):  # fmt: skip
        one: Any = SimpleNamespace(plan=plan, hours=hours, cost=cost)
        said.append(verdict.cost_of(one).replace("\N{WORD JOINER}", ""))
    assert said == [
        "3.0\N{EN DASH}6.0", "16\N{EN DASH}32", "0.04\N{EN DASH}0.09", "", "3.00\N{EN DASH}6.00", "0.01",
    ]  # fmt: skip


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


def test_plans_that_are_found_while_the_page_is_drawn_are_drawn_next(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Callable[[], None]] = []
    begun: list[None] = []
    answers: dict[str, Future[Any]] = {}
    monkeypatch.setattr(waiting, "part", lambda draw, every=None: looks.append(draw))
    monkeypatch.setattr(waiting, "_waiting", {})
    monkeypatch.setattr(st, "rerun", lambda: begun.append(None))
    submit = lambda *asked: answers.setdefault(str(asked), Future())  # noqa: E731
    monkeypatch.setattr(page, "get_pool", lambda: SimpleNamespace(submit=submit))

    def arrive(_: object) -> None:  # with the last that is drawn
        for one in answers.values():
            if not one.done():
                one.set_exception(Unsupported("not here"))

    monkeypatch.setattr(shown_plans, "refused_plans", arrive)
    for drawn in range(1, 30):
        known = len(answers)
        page._plans(Wanted(), lambda wanted, ranked: None)
        if len(answers) == known:
            break
        assert len(looks) == drawn
        looks[-1]()
        looks[-1]()
        assert len(begun) == drawn
    assert len(looks) == drawn - 1 > 0, "what is drawn is not waited for"


def test_what_meets_a_moment_is_asked_anew_as_time_passes_and_hours_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deadlines: list[str] = []
    pending: Future[Any] = Future()

    def submit(_: int, what: object, fields: dict[str, Any], best: object) -> Future[Any]:
        deadlines.append(fields["deadline"])
        return pending

    monkeypatch.setattr(page, "get_pool", lambda: SimpleNamespace(submit=submit))
    monkeypatch.setattr(page, "come_back", lambda *_, **__: None)
    ranked: Any = [SimpleNamespace(hours=(50.0, 60.0), title="LoRA")]
    for left in (10.07, 10.04, 5.0, 0.002):
        monkeypatch.setattr(Wanted, "hours", lambda self, left=left: left)
        page._late(Wanted(deadline="2030-01-01T08:00"), ranked)
    assert deadlines == ["10", "10", "5", "0.01"]
    page._late(Wanted(deadline="0.0025"), ranked)
    assert deadlines[-1] == "0.0025"


def test_a_search_for_what_meets_a_deadline_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: Future[Any] = Future()
    failed.set_exception(RunError("The process was ended."))
    said: list[str] = []
    monkeypatch.setattr(page, "get_pool", lambda: SimpleNamespace(submit=lambda *_: failed))
    monkeypatch.setattr(page, "near", said.append)
    ranked: Any = [SimpleNamespace(hours=(50.0, 60.0), title="LoRA")]
    page._late(Wanted(deadline="5"), ranked)
    (line,) = said
    assert line.startswith("No plan is sure to finish within 5 hours.") and line.endswith(
        "The process was ended."
    )
