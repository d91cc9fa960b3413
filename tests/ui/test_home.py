"""Home's button trains what its picture shows, and the base answers the learner's own order."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.core import inspector, machine
from peft_lab.drawing.trajectory.sentence import shipped
from peft_lab.runs import store
from peft_lab.runs.respond import base_answer
from peft_lab.ui import home
from peft_lab.ui.components import sentence
from peft_lab.ui.method import parts, settings, train
from tests.conftest import link
from tests.ui.test_pages import ROOT
from tests.waits import SECONDS


@pytest.fixture
def weights(own_home: Path, assets_home: object) -> Path:
    link(own_home)
    return own_home


@pytest.mark.weights
def test_the_button_trains_with_the_settings_of_the_recorded_run(weights: Path) -> None:
    started = home.request().complete().to_dict()
    assert {**started, "probes": []} == shipped().spec | {
        "eval_rows": started["eval_rows"],  # nothing of the recorded one was scored
        "values": {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in shipped().spec["values"].items()
        },
    }
    assert started["probes"] == [shipped().order]


@pytest.mark.further
@pytest.mark.rest
@pytest.mark.weights
def test_what_the_base_answers_live_is_what_it_answered_at_step_0(weights: Path) -> None:
    run = shipped()
    assert base_answer(run.spec["model"], run.spec["task"], run.order) == run.answers[0].text


def test_equal_answers_share_a_row_and_one_that_was_cut_off_misses_nothing() -> None:
    rows = sentence.sent(shipped())["rows"]
    assert [row["steps"] for row in rows] == [[0], [5], [10], [15, 25]]
    for row, answer in zip(rows, shipped().answers, strict=False):
        text = "".join(piece for piece, _ in row["pieces"])
        assert text.removesuffix(" …") == answer.text
        assert not (text.endswith(" …") and row["missing"])
    assert [row["right"] for row in rows] == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('{"item": "tea", "size": "big"', "no valid JSON"),
        ('{"item": "tea", "kind": 1}', "1 of 5 fields named"),
        ("", "no valid JSON"),
    ],
)
def test_an_answer_to_ones_own_order_is_described_without_the_right_one(answer: str, says: str) -> None:
    found = sentence._described(answer)
    assert found["says"] == says and found["answer"]
    assert found["answer"].endswith(" …") == (answer.startswith("{") and not answer.endswith("}"))


@pytest.mark.weights
def test_what_the_methods_page_shows_first_is_asked_for_while_one_reads(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its simulations took the processor from the first steps of the run that the button starts."""
    asked: list[str] = []

    def submit(*question: Any) -> Future[Any]:
        function, arguments = next(
            (one, question[at + 1 :]) for at, one in enumerate(question) if callable(one)
        )
        asked.append(inspector.question_key(function, arguments, {}))
        return Future()

    for module in (settings, parts):
        monkeypatch.setattr(module, "get_pool", lambda: SimpleNamespace(submit=submit))
    monkeypatch.setattr(inspector, "submit", submit)
    home._prepare()
    assert len(set(asked)) == 3, "the count, the run's step, and full fine-tuning's"
    while_reading, run = set(asked), store.create(home.request().complete())
    asked.clear()
    train.memory_beside(run)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    wanted = home.request()
    app.query_params.update({"tab": "train", "steps": str(wanted.steps), "batch": str(wanted.batch)})
    app.switch_page(f"pages/{wanted.method}.py").run()
    assert not app.exception
    woken = inspector.question_key(machine.cores, (), {})  # asked by the first app of a process
    assert set(asked) - {woken} == while_reading
