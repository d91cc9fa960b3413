"""*Same answers?* and *Answers wrongly*: guess first; one way is asked after another, and a Stop that stops."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.core.errors import BadInput
from peft_lab.studies import exhibits, same_rows
from peft_lab.studies.exhibits import OUTCOMES, all_exhibits, outcome
from peft_lab.studies.same_rows import UNMERGED, WAYS, recorded
from tests.ui.test_pages import told
from tests.waits import SECONDS

FIRST = next(iter(all_exhibits().values()))


def _exhibits() -> None:
    from peft_lab.ui.ship.exhibits import exhibits

    exhibits("")


def _rows() -> None:
    from peft_lab.ui.ship.rows import same_answers

    same_answers("mine")


def _recorded_rows() -> None:
    from peft_lab.ui.ship.rows import same_answers

    same_answers("")


def everything(app: AppTest) -> str:
    return told(app) + "".join(each.value for each in (*app.code, *app.caption))


def test_an_exhibit_shows_nothing_of_its_answers_before_a_guess(own_home: Path) -> None:
    app = AppTest.from_function(_exhibits, default_timeout=SECONDS).run()
    assert FIRST.command not in everything(app) and FIRST.url not in everything(app)
    app.button[-1].click().run()  # without a choice
    assert FIRST.command not in everything(app)
    app.radio[0].set_value("same")
    app.button[-1].click().run()
    answers = recorded()["answers"]
    came = outcome(FIRST.rows(recorded()["spec"]), answers[FIRST.healthy], answers[FIRST.id])
    assert not app.exception and f"**{OUTCOMES[came]}.**" in told(app)
    assert all(text in everything(app) for text in (FIRST.command, FIRST.check, FIRST.url))


def test_the_recorded_answers_need_neither_run_nor_weights(own_home: Path) -> None:
    app = AppTest.from_function(_recorded_rows, default_timeout=SECONDS).run()
    drawn = "".join(str(each.proto.body) for each in app.get("html"))
    assert not app.exception and not any(":red[" in each.value for each in app.markdown)
    assert all(way.title in drawn for way in WAYS.values())
    assert drawn.count("<i style=") == sum(
        len(one.lost) for name, one in recorded()["answers"].items() if name in WAYS
    )


def test_a_run_that_writes_no_answers_is_no_error_of_the_page(
    monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    def refuse(run: str) -> None:
        raise BadInput("Choose another run.", "run")

    monkeypatch.setattr(same_rows, "adapter_of", refuse)
    app = AppTest.from_function(_rows, default_timeout=SECONDS).run()
    assert "Choose another run." in told(app) and not any(":red[" in each.value for each in app.markdown)


def test_ways_are_asked_one_after_another_until_stopped(
    monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    spec, known = recorded()["spec"], recorded()["answers"]
    asked: dict[str, Future[Any]] = {}

    def ask(run: str, way: str) -> Future[Any]:
        return asked.setdefault(way, Future())

    monkeypatch.setattr(exhibits, "ask", ask)
    monkeypatch.setattr(same_rows, "adapter_of", lambda run: (spec, Path()))
    monkeypatch.setattr(same_rows, "split_text", lambda _, text: list(text))
    app = AppTest.from_function(_rows, default_timeout=SECONDS).run()
    assert not asked

    def press(label: str) -> None:
        next(one for one in app.button if one.label.startswith(label)).click()
        app.run()

    press("Answer")
    app.run()
    assert list(asked) == [UNMERGED]  # and no second one while it is open
    asked[UNMERGED].set_result(known[UNMERGED])
    app.run()
    second = list(WAYS)[1]
    assert list(asked) == [UNMERGED, second]
    press("Stop")
    asked[second].set_result(known[second])
    app.run()
    assert list(asked) == [UNMERGED, second]
    assert not app.exception
