"""The Playground: what is sent to the browser once, and where its button leads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from peft_lab.engine.timing import here
from peft_lab.runs.forecast import RunWork, forecast
from peft_lab.runs.kept import told_forecast
from peft_lab.studies.playground import shipped
from peft_lab.ui import playground
from peft_lab.ui.components.sentence import row
from peft_lab.ui.components.waiting import Look
from tests.conftest import link
from tests.ui.test_pages import opened
from tests.ui.test_train import SPEED


def test_the_record_is_small_and_refers_to_what_it_holds() -> None:
    data = playground.sent(shipped())
    assert len(json.dumps(data)) < 1_500_000
    assert data["runs"][data["opens"]]["rank"] == 8
    for run in data["runs"]:
        assert len(run["answers"]) == len(data["asked"])
        assert all(0 <= answer < len(data["rows"]) for answer in run["answers"])
        assert run["alpha"] == run["ratio"] * run["rank"]
    for cost in data["costs"]:
        assert cost["parts"] and cost["trained"] and cost["peak"]


def test_an_answer_without_a_letter_says_so() -> None:
    assert row(" \n ", shipped().right)["pieces"] == [["(nothing)", "n"]]
    assert row('{"item": "tea', shipped().right)["pieces"][-1] == [" …", "n"]


@pytest.mark.weights
def test_once_the_machine_is_measured_the_button_says_how_long_each_run_lasts(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(own_home)
    monkeypatch.setattr(here, "place", lambda: tmp_path / here.FILE)
    runs = replace(shipped(), runs=shipped().runs[-1:])
    assert playground.durations(runs) == [""]
    here.keep({"constants": SPEED, "loading": {"models": {"smollm2-135m": [2.0, 270e6]}, "pack": 1e9}})
    work = RunWork((), 1.0, 0.0, (), (0, 0), 270_000_000, False, {})
    monkeypatch.setattr(playground, "ask_work", lambda request: Look(work))
    (said,) = playground.durations(runs)
    spec = runs.runs[0].setting.request.complete()
    assert said == told_forecast(forecast(work, spec).seconds, [])


@pytest.mark.slow
@pytest.mark.weights
def test_the_button_leads_to_the_page_that_trains_this_very_run(own_home: Path) -> None:
    link(own_home)
    sent = playground.sent(shipped())["runs"]
    run = max(shipped().runs, key=lambda run: (run.targets, run.rank, run.rate))  # far from every default
    page, _, query = sent[shipped().runs.index(run)]["query"].partition("?")
    address = dict(parse_qsl(query))
    app = opened(page, **address)
    assert not app.exception and not app.error
    shown = app.session_state["complete-address"]
    assert {name: shown[name] for name in address} == address
    assert (shown["r"], shown["lr"], shown["rows"]) == (str(run.rank), f"{run.rate:g}", "0")
