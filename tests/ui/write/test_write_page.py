"""The page Write it, through the app, in the plain field: what is listed, judged, hinted at and kept."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import peft_lab
from peft_lab.interview import mock
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.mock import Interview, begin, make_plan, report
from peft_lab.interview.write import judge, progress
from peft_lab.interview.write.exercises import exercise, exercises
from peft_lab.ui import web
from peft_lab.ui.practice import mock as interviewing
from peft_lab.ui.write import page as write
from peft_lab.ui.write.editor import LONGEST, Desk
from tests.classroom.conftest import empty_class, joined  # noqa: F401  a fixture
from tests.ui.test_practice import START, checked, opened, press, told, wait_for

pytestmark = pytest.mark.usefixtures("own_home")
NAME = "lora-forward"


def field(app: AppTest) -> Any:
    return next(area for area in app.text_area if area.label == "Your program")


def judged(app: AppTest, program: str, counts: str) -> AppTest:
    """Type a program, run it, and wait for its results."""
    field(app).set_value(program)
    checked(app.run())
    press(app, "Run the tests")
    return wait_for(app, lambda app: any(each.value.startswith(f"### {counts}") for each in app.markdown))


def listed(app: AppTest) -> dict[str, list[str]]:
    """The cells of the list by the exercise's id."""
    tables = [
        json.loads(each.proto.json) for each in app.get("bidi_component") if "write-list" in each.proto.id
    ]
    return {row["id"]: row["cells"] for table in tables for row in table["rows"]}


@pytest.mark.slow
def test_a_mistake_is_named_hints_come_one_by_one_and_passing_shows_the_solution() -> None:
    one = exercise(NAME)
    wrong = one.mistakes[0]
    app = opened("write", id=NAME, plain="true")
    assert one.explanation[0] not in told(app)
    for number in range(len(one.hints) + 1):
        assert [hint in told(app) for hint in one.hints] == [at < number for at in range(len(one.hints))]
        if number < len(one.hints):
            app.button(key="write-hint").click()
            checked(app.run())
    assert "write-hint" not in [button.key for button in app.button]

    verdict = judge.check(NAME, one.mistaken(wrong))
    passed = sum(test.ok for test in verdict.tests)
    judged(app, one.mistaken(wrong), f"{passed} passed")
    assert wrong.sentence in told(app) and wrong.explanation in told(app)
    shown = [str(each.proto.body) for each in app.get("html") if "write-test" in str(each.proto.body)]
    assert ['class="write-test ok"' in line for line in shown] == [test.ok for test in verdict.tests]
    first = next(test for test in verdict.tests if not test.ok)
    assert any("details" in line and " open>" in line and first.got.split()[-1] in line for line in shown)
    assert one.explanation[0] not in told(app)
    assert not progress.standing(Learners(), "Me")[NAME].passed

    judged(app, one.solution, f"{len(verdict.tests)} passed")
    assert one.explanation[0] in told(app)
    assert progress.standing(Learners(), "Me")[NAME].passed

    again = opened("write", id=NAME, plain="true")
    assert field(again).value == one.solution, "kept for a later session"
    press(again, f"All {len(exercises())}")
    rows = listed(again)
    assert list(rows) == list(exercises())
    assert rows[NAME] == [one.title, str(one.level), str(one.minutes), "passed"]
    press(again, "Back to the exercise")
    press(again, "Replace")
    assert field(again).value == one.stub
    press(again, "Next")
    assert again.query_params["id"] == list(exercises())[1]


@pytest.mark.usefixtures("empty_class")
def test_in_a_class_writing_is_off_and_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ada = joined("Ada")
    monkeypatch.setattr("peft_lab.ui.server.sessions.who_asks", lambda: ada)
    app = opened("write", id=NAME, plain="true")
    assert [judge.refusal()] == [each.value for each in app.info]
    assert next(button for button in app.button if button.label == "Run the tests").disabled
    assert exercise(NAME).task[:20] in told(app), "it can still be read"


def test_texts_of_page_and_interview_are_kept_apart() -> None:
    file, one = Learners(), exercise(NAME)
    file.create("Me")
    page, interview = Desk(file, "Me"), Desk(file, "Me", "interview")
    page.keep(one, "x = 1")
    interview.keep(one, "x = 2")
    page.keep(one, "x" * (LONGEST + 1))
    assert (page.text(one), interview.text(one)) == ("x = 1", "x = 2")
    interview.clear(one)
    assert (page.text(one), interview.text(one)) == ("x = 1", one.stub)


def test_the_place_in_the_method_from_scratch() -> None:
    place = write.scratch_place("lora.LoRA.forward")
    assert place is not None and place[1].startswith("def forward")
    file, line = place[0].split(", line ")
    source = Path(peft_lab.__file__).parents[1].joinpath(file).read_text("utf-8").splitlines()
    assert source[int(line) - 1].strip() == place[1].splitlines()[0]
    assert write.scratch_place("lora.Nobody") is None and write.scratch_place("") is None


def test_the_bundle_is_named_by_its_bytes_and_has_its_licenses() -> None:
    build = importlib.import_module("tools.build_editor")
    pinned = json.loads((build.RECIPE / "package.json").read_text("utf-8"))["devDependencies"]
    text = (web.CODEMIRROR.parent / "LICENSE.txt").read_text("utf-8")
    for package, release in pinned.items():
        assert package == "esbuild" or f"{package} {release}" in text
    digest = build.hashlib.sha256(web.CODEMIRROR.read_bytes()).hexdigest()
    assert web.CODEMIRROR.name == f"codemirror.{digest[:8]}.js"


# ----------------------------------------
# The mock interview's exercise.


def test_an_interview_ends_with_one_exercise_that_is_scored_as_other_questions() -> None:
    plain, plan = make_plan(3), make_plan(3, write=True)
    *questions, last = plan.questions
    assert tuple(questions) == plain.questions and mock.is_exercise(last)
    one = mock.exercise_of(last)
    assert plan.seconds == plain.seconds + 60 * one.minutes
    held = begin(dataclasses.replace(plan, questions=(last,)), START).answer(one.solution, 0.75, START)
    held = Interview.from_dict(held.to_dict())
    summed = report(held)
    assert summed.total.points == 0.75 and summed.topics[mock.WRITE].points == 0.75
    assert list(mock.look_next(held)) == [last]
    assert one.solution.splitlines()[0] in mock.transcript(held)
    other = mock.choose_exercise(3, avoid={last})
    assert other != last


@pytest.mark.slow
def test_a_program_handed_in_gets_the_share_of_tests_that_it_passes() -> None:
    one, file = exercise(NAME), Learners()
    file.create("Me")
    verdict = judge.check(NAME, one.mistaken(one.mistakes[0]))
    plan = dataclasses.replace(make_plan(3), questions=(f"{mock.WRITE}/{NAME}",))
    file.keep("Me", interviewing.KEPT, {"interview": begin(plan, file.now()).to_dict(), "said": None})
    Desk(file, "Me").keep(one, one.solution)
    app = opened("practice", tab="interview")
    assert one.title in told(app) and field_of_editor(app)["text"] == one.stub, "not the text of the page"
    held = Interview.from_dict(file.kept("Me", interviewing.KEPT)["interview"])
    Desk(file, "Me", interviewing.slot(held)).keep(one, one.mistaken(one.mistakes[0]))
    press(app, "Hand in")
    (result,) = file.results("Me", interviewing.KEPT)
    share = sum(test.ok for test in verdict.tests) / len(verdict.tests)
    assert Interview.from_dict(result.content["interview"]).replies[0].points == pytest.approx(share)
    assert progress.standing(file, "Me")[NAME].tries == 1 and f"{mock.WRITE}/{NAME}" not in file.cards("Me")
    assert one.explanation[0] in told(app), "the report has the solution"


def field_of_editor(app: AppTest) -> dict[str, Any]:
    (editor,) = [each for each in app.get("bidi_component") if each.proto.component_name == "peft_write"]
    data: dict[str, Any] = json.loads(editor.proto.json)
    return data
