"""The page Myths, through the app: a guess before each verdict, its record, filters, predictions, old addresses."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.interview import claims
from peft_lab.interview.claims import get_claim
from peft_lab.interview.claims.verdicts import VERDICTS
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.predictions import (
    Contest,
    Inquiry,
    all_predictions,
    decide,
    stored,
)
from peft_lab.runs import store
from peft_lab.runs.child import end_run
from peft_lab.runs.record import stands_for
from peft_lab.ui import theme
from peft_lab.ui.foreign import plain
from peft_lab.ui.myths import page as myths
from peft_lab.ui.myths.checked import verdict_of
from peft_lab.ui.myths.page import MythForm
from peft_lab.ui.myths.predicted import chart_of
from peft_lab.ui.shell.dress import Dress
from tests.conftest import link
from tests.prose import says
from tests.ui.test_practice import opened, press, told, wait_for

pytestmark = pytest.mark.usefixtures("own_home")


def guess(app: AppTest, option: int, sure: int) -> AppTest:
    app.radio[0].set_value(option)
    app.slider[0].set_value(sure)
    return press(app, "Check my guess")


def test_no_verdict_is_told_before_a_guess_and_the_guess_is_kept() -> None:
    app = opened("myths", claim="ia3-share")
    claim = get_claim("ia3-share")
    assert claim.on().found[1:] not in told(app)
    right = VERDICTS.index(verdict_of(claim) or "wrong")
    guess(app, (right + 1) % 3, 80)
    assert claim.on().found[1:] in told(app)
    assert f"The claim is {VERDICTS[right]}" in told(app)
    (kept,) = Learners().results("Me", myths.KIND)
    assert kept.content == {
        "id": "ia3-share", "guess": (right + 1) % 3, "right": right, "correct": False, "sure": 80,
    }  # fmt: skip
    assert claim.on().found[1:] in told(opened("myths", claim="ia3-share")), "in a later session too"


def test_the_list_says_what_was_guessed_and_what_is_so() -> None:
    app = opened("myths", claim="ia3-share")
    truth = verdict_of(get_claim("ia3-share")) or "wrong"
    wrong = (VERDICTS.index(truth) + 1) % 3
    guess(app, wrong, 80)
    (known,) = myths.judged(Learners(), "Me").values()
    row = myths._entry("ia3-share", known)
    assert row.kinds == ("wrong",) and row.cells[0].endswith(f"\nyou: {VERDICTS[wrong]} · it is {truth}")
    bar = next(one.proto.body for one in app.get("html") if "myths-bar" in one.proto.body)
    assert re.findall(r"flex:(\d+)", bar) == ["0", "1", str(len(MythForm().select()) - 1)]


def test_next_leads_through_the_filter_and_the_mistaken_come_back() -> None:
    app = opened("myths", topic="ia3", origin="text")
    names = MythForm(topic="ia3", origin="text").select()
    for name in names:
        assert f"## {get_claim(name).claim}" in told(app)
        right = VERDICTS.index(verdict_of(get_claim(name)) or "wrong")
        guess(app, right if name != names[0] else (right + 1) % 3, 60)
        press(app, "Next claim")
    assert f"## {get_claim(names[0]).claim}" in told(app)
    assert app.radio[0].value is None, "guessed again"


def test_a_verdict_can_be_looked_up_and_says_where_it_is_from() -> None:
    app = press(opened("myths", claim="prompt-minimal-memory"), "Show the verdict")
    found, was_kept = claims.is_settled("prompt-minimal-memory")
    assert re.search(rf"{re.escape(found.found[1:])}\.\*\* :\S+-badge\[simulated\]", told(app))
    assert re.search(rf"{re.escape(found.cited)}\. :\S+-badge\[cited\]", told(app))
    assert was_kept
    assert f"Stored result of {claims.result_seconds()}" in told(app)
    assert any(button.label == "Run it here" for button in app.button)
    other = claims.result_seconds().differing()
    assert all(f"{name} {version}" in told(app) or len(other) > 1 for name, version in other.items())
    assert not Learners().results("Me", myths.KIND), "no guess was made"
    assert "def prompt_minimal_memory" in app.code[0].value


def test_claims_follow_the_model_and_the_filters() -> None:
    app = press(opened("myths", claim="ia3-share", model="bert-base", topic="ia3"), "Show the verdict")
    assert get_claim("ia3-share").on("bert-base").found[1:] in told(app)
    assert get_claim("ia3-share").on("llama-3.2-3b").found[1:] not in told(app)
    wrong = MythForm(verdict="wrong", origin="saying", topic="choosing").select()
    assert wrong and {verdict_of(get_claim(name)) for name in wrong} == {"wrong"}
    assert MythForm(origin="experiment").select() == list(all_predictions())
    assert "ia3-share" in MythForm(find="ia³ parameters").select()
    assert not MythForm(find="no such words").select()


@pytest.mark.parametrize(
    ("old", "query", "now"),
    [
        ("fact_check", "claim=ia3-share&topic=ia3", "myths?claim=ia3-share&topic=ia3"),
        ("misconceptions", "belief=predict-alpha", "myths?claim=predict-alpha"),
        ("practice", "tab=predict&topic=lora&level=basic", "myths?topic=lora"),
        ("practice", "tab=interview", ""),
        ("myths", "claim=ia3-share", ""),
    ],
)
def test_old_addresses_lead_to_the_new_place(old: str, query: str, now: str) -> None:
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        sent.append("drawn")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": f"/base/{old}", "query_string": query.encode(),
        "headers": [(b"accept", b"text/html")],
    }  # fmt: skip
    asyncio.run(Dress(inner)(scope, None, send))  # type: ignore[arg-type]
    if not now:
        assert sent == ["drawn"]
    else:
        assert dict(sent[0]["headers"])[b"location"] == now.encode() and sent[0]["status"] == 307


LEAST_BELIEFS = 12


def test_a_prediction_is_committed_run_and_kept() -> None:
    app = opened("myths", claim="predict-value-map")
    press(app, "Check my guess")
    assert "Choose an option first" in told(app)
    app.radio[0].set_value(1)
    press(app, "Check my guess")
    wait_for(app, lambda app: "What the experiment shows" in told(app))
    assert "right" in told(app)
    assert ":blue-badge[counted]" in told(app)
    later = opened("myths", claim="predict-value-map")
    assert "right" in told(later), "replayed"
    assert "**1** of" in told(later)
    press(later, "Guess again")
    assert later.radio[0].value is None


@pytest.mark.weights
def test_a_contest_uses_finished_runs_of_the_same_settings(own_home: Path) -> None:
    link(own_home)
    prediction = all_predictions()["predict-learning-rate"]
    assert isinstance(prediction.experiment, Contest)
    for spec, accuracy in zip(prediction.experiment.runs, (0.75, 0.5), strict=True):
        run = store.create(spec.complete())
        scored = {"metrics": {"accuracy": accuracy}, "loss": 0.5, "rows": 100, "seconds": 0.1}
        run.log.emit("evaluated", which="tuned", **scored)
        end_run(run, "done", "")
    app = opened("myths", claim=prediction.id)
    app.radio[0].set_value(1)
    press(app, "Check my guess")
    assert says(told(app), "2e-5", "2e-3")
    assert ":green-badge[measured]" in told(app)
    chart = app.get("plotly_chart")[0].proto.spec
    assert json.loads(chart)["layout"]["yaxis"]["type"] == "category"
    assert len(store.runs()) == len(prediction.experiment.runs), "nothing was trained"


@pytest.mark.parametrize("name", list(all_predictions()))
def test_a_chart_settles_every_belief(name: str) -> None:
    prediction = all_predictions()[name]
    experiment = prediction.experiment
    count = len(experiment.labels) + (len(experiment.evidence) if isinstance(experiment, Inquiry) else 0)
    for value in (0.5, 2.0, 40.0):
        outcome = decide(prediction, [value + index for index in range(count)])
        (trace,) = chart_of(prediction, outcome).data
        colours = list(trace.marker.line.color or trace.marker.color)  # ranges are pale within their outline
        if prediction.rule == "bands":
            low = trace.base[outcome.right]
            assert low <= value <= low + trace.x[outcome.right], "the figure lies in the range that is marked"
            assert len(colours) == len(prediction.options)
        if not (isinstance(experiment, Inquiry) and experiment.categorical):
            assert [index for index, colour in enumerate(colours) if colour == theme.TRAINABLE] == [
                outcome.right
            ]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", [name for name, each in all_predictions().items() if each.trains])
def test_a_stored_run_is_replayed_at_once(name: str) -> None:
    prediction = all_predictions()[name]
    kept = stored(prediction)
    assert kept is not None, "made anew by python -m tools.store_contests"
    outcome = decide(prediction, kept.values)
    app = opened("myths", claim=name)
    app.radio[0].set_value(outcome.right)
    press(app, "Check it with a stored run")
    assert "right" in told(app)
    assert f"A stored run, measured {kept.measured}." in told(app)
    assert not store.runs(), "nothing was trained"


@pytest.mark.weights
def test_stored_figures_are_of_todays_defaults(own_home: Path) -> None:
    link(own_home)
    for prediction in all_predictions().values():
        kept = stored(prediction)
        if isinstance(prediction.experiment, Contest):
            assert kept is not None
            today = [run.complete() for run in prediction.experiment.runs]
            assert all(map(stands_for, kept.complete, today)) and len(kept.complete) == len(today)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", list(all_predictions()))
def test_each_belief_opens(name: str) -> None:
    assert len(all_predictions()) >= LEAST_BELIEFS
    app = opened("myths", claim=name)
    assert plain(all_predictions()[name].belief) in told(app)
    assert list(app.radio[0].options) == list(all_predictions()[name].options)


def test_an_unknown_name_in_another_address_is_told_once_and_left_out(own_home: Path) -> None:
    app = opened("myths", claim="no-such")
    assert told(app).count("link_off") == 1 and "'no-such'" in told(app)
    assert "claim" not in app.query_params
