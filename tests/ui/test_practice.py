"""The Practice page, through the app, with a clock of our own and an empty lab folder; and a learner's week on it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox, TextInput

from peft_lab.interview import tour
from peft_lab.interview.bank import chain, get_question
from peft_lab.interview.computed import wilson
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners, export_profile, rating_of
from peft_lab.interview.mock import SIZE, Interview, look_next, make_plan
from peft_lab.interview.question import topics
from peft_lab.interview.tour import FIRST
from peft_lab.ui.practice.answering import _ADVICE, GIVE_WAY, HOLD, SELF_CHECK, UNKNOWN
from peft_lab.ui.practice.cards import away, interview_date
from tests.prose import says
from tests.waits import SECONDS

ROOT = Path(__file__).parents[2]
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("own_home")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(schedule, "utc_now", clock)
    return clock


def opened(page: str = "practice", **address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    for name, value in address.items():
        app.query_params[name] = value
    app.switch_page(f"pages/{page}.py")
    return checked(app.run())


def who(app: AppTest) -> Selectbox[str]:
    """The control that says who practises."""
    return next(box for box in app.selectbox if box.label == "Learner")


def named(app: AppTest, label: str) -> TextInput:
    return next(box for box in app.text_input if box.label == label)


def checked(app: AppTest) -> AppTest:
    assert not app.exception
    return app


def told(app: AppTest) -> str:
    boxes = (*app.success, *app.info, *app.warning, *app.error)
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *boxes))


def press(app: AppTest, label: str) -> AppTest:
    """Press the button whose label starts so."""
    return checked(next(button for button in app.button if button.label.startswith(label)).click().run())


def wait_for(app: AppTest, ready: Callable[[AppTest], bool]) -> AppTest:
    """A browser draws the page again by itself; here it is done by hand."""
    until = time.monotonic() + SECONDS
    while not ready(app) and time.monotonic() < until:
        time.sleep(0.1)
        checked(app.run())
    assert ready(app), told(app)
    return app


def test_a_rated_card_goes_to_its_due_date_and_a_new_session_knows(clock: Clock) -> None:
    app = opened(topic="lora", level="basic")
    assert "**0** due" in told(app)
    press(app, "I don't know")
    name = "lora-one-map"
    promised = Learners(clock=clock).preview("Me", name)["easy"]
    assert any(button.label == f"Easy · {away(promised - clock.now)}" for button in app.button)
    press(app, "Easy")
    card = Learners(clock=clock).cards("Me")[name]
    assert card.due == promised > clock.now
    assert "rated easy" in told(app)

    clock.now = promised - timedelta(minutes=1)
    assert "**0** due" in told(opened(topic="lora", level="basic"))
    clock.now = promised
    later = opened(topic="lora", level="basic")
    assert "**1** due" in told(later)
    assert get_question(name).ask() in told(later), "what is due comes before what is new"


def test_nothing_is_shown_to_whoever_has_not_tried(clock: Clock) -> None:
    """Retrieval before reading: an empty answer shows nothing, and not knowing has to be said."""
    app = opened(topic="lora", level="basic")
    name = "lora-why-b-zero"
    press(app, "Check")
    while get_question(name).ask() not in told(app):
        assert "### Model answer" not in told(app)
        press(app, "Skip this question")
    press(app, "Show the model answer")
    assert "don't know" in told(app)
    assert get_question(name).answer not in told(app)
    press(app, "I don't know")
    assert get_question(name).answer in told(app)
    again = next(button for button in app.button if button.label.startswith("Again"))
    assert again.proto.type == "primary"


def test_a_chain_is_asked_one_after_the_other(clock: Clock) -> None:
    app = opened(topic="lora", level="basic")
    press(app, "I don't know")
    first, second = chain(get_question("lora-one-map"))[1:3]
    assert first.follow_up and second.follow_up and second.asks
    answer = first.after.explain_follow_up(first.follow_up)[1]
    assert first.after.explain_follow_up(first.follow_up)[0] in told(app)
    assert answer not in told(app), "asked first"
    assert second.follow_up.question not in told(app), "one after the other"
    press(app, "Show the answer")
    assert answer not in told(app), "nothing was said yet"
    assert f"press “{UNKNOWN}”" in told(app)
    attempt(app).set_value("Half of it, because of *two* maps.")
    press(app, "Show the answer")
    assert f"{answer} :" in told(app)
    assert "Half of it" in told(app)
    assert any(button.label == "Show me: LoRA" for button in app.button)
    assert second.follow_up.question in told(app)
    assert second.asks.explain(second.asks.compute()) not in told(app)
    press(app, "I don't know")
    assert "didn't know" in told(app)
    assert second.asks.ask() in told(app), "the question of the bank that it leads to"
    assert second.asks.explain(second.asks.compute()) in told(app)


def attempt(app: AppTest) -> Any:
    return next(box for box in app.text_area if box.label == "Your answer to the follow-up")


@pytest.mark.parametrize(("pressed", "found"), [(HOLD, _ADVICE[HOLD]), (GIVE_WAY, _ADVICE[HOLD])])
def test_a_doubt_is_held_against_or_given_way_to(pressed: str, found: str, clock: Clock) -> None:
    doubt = get_question("prefix-stored").doubt
    assert doubt is not None and doubt.holds
    app = opened(topic="prefix", level="basic")
    press(app, "I don't know")
    assert doubt.objection in told(app)
    assert doubt.because not in told(app)
    press(app, pressed)
    assert found in told(app)
    assert doubt.because in told(app)
    assert not any(button.label in (HOLD, GIVE_WAY) for button in app.button)


def test_a_learner_is_created_and_a_taken_name_is_refused(clock: Clock) -> None:
    app = opened()
    named(app, "Name").set_value("Ada")
    press(app, "Create")
    assert who(app).value == "Ada"
    named(app, "Name").set_value("ada")
    press(app, "Create")
    assert "ada" in told(app)


def answer_box(app: AppTest) -> int:
    return next(index for index, box in enumerate(app.text_input) if box.label == "Your answer")


@pytest.mark.slow
def test_an_answer_that_needs_torch_comes_from_another_process(clock: Clock) -> None:
    question = get_question("quant-nf4-error")
    assert question.needs == "torch"
    app = opened(topic=question.topic, level=question.level)
    while question.ask() not in told(app):
        press(app, "Skip this question")
    press(app, "I don't know")
    wait_for(app, lambda app: "### Model answer" in told(app))
    assert ":green-badge[measured]" in told(app)


def test_an_interview_of_ten_ends_in_a_report_with_pages_to_read(clock: Clock) -> None:
    app = opened(tab="interview", seed="3", write="false")
    press(app, "Start")
    for number, name in enumerate(make_plan(3).questions, start=1):
        clock.now += timedelta(seconds=20)
        question = get_question(name)
        assert f"{number} of {SIZE}" in told(app)
        assert question.ask() in told(app)
        if question.kind == "free":
            next(box for box in app.text_area if box.label == "Your answer").set_value("It depends.")
            press(app, "Answer")
            app.checkbox[-1].set_value(True)
            press(app, "Next question")
        elif question.kind == "numeric" and number % 2:
            answer = question.compute()
            assert answer is not None
            app.text_input[answer_box(app)].set_value(f"{answer.value} {answer.unit}")
            press(app, "Answer")
        else:
            press(app, "Pass")
    assert "## Your result" in told(app)
    assert "### Read next" in told(app)
    kept = Learners(clock=clock).results("Me", "interview")
    assert len(kept) == 1
    replies = kept[0].content["interview"]["replies"]
    assert len(replies) == SIZE
    assert [(each.question, each.rating) for each in Learners(clock=clock).reviews("Me")] == [
        (reply["question"], rating_of(reply["points"])) for reply in replies
    ], "answers are reviews"
    assert "half or more" in told(app)
    low, high = wilson(sum(reply["points"] for reply in replies), SIZE)
    assert says(told(app), "95%", f"{low:.0%}", f"{high:.0%}")
    coming = look_next(Interview.from_dict(kept[0].content["interview"]))
    for number, (name, why) in enumerate(coming.items(), start=1):
        missed = "\n".join(f"   - {each}" for each in why)
        assert f"{number}. {topics()[get_question(name).topic]}\n{missed}" in told(app)
    # the report and the next seed survive; a new session lists the interview
    assert "Interviews so far" in told(opened(tab="interview"))


def test_a_plan_follows_the_role_and_ends_before_the_interview(clock: Clock) -> None:
    file = Learners(clock=clock)
    file.create("Me")
    day = (clock.now + timedelta(days=6)).date()
    file.keep("Me", "interview_on", day.isoformat())
    app = opened()
    assert "all topics" in told(app)
    box = next(each for each in app.selectbox if each.label == "Role")
    checked(box.set_value("platform").run())
    assert file.kept("Me", "interview_for") == "platform"
    press(app, "I don't know")
    press(app, "Easy")
    (card,) = file.cards("Me").values()
    assert card.due.date() < day
    assert f"due again on {interview_date(card.due)}" in told(app)


def test_an_interview_goes_on_after_a_reload_and_ends_with_the_time(clock: Clock) -> None:
    press(opened(tab="interview", seed="3", write="false"), "Start")
    again = opened(tab="interview")
    assert f"1 of {SIZE}" in told(again)
    clock.now += timedelta(seconds=make_plan(3).seconds)
    assert "## Your result" in told(checked(again.run()))


def test_a_free_answer_gets_a_checklist_and_no_verdict(clock: Clock) -> None:
    app = opened(topic="lora", level="basic")
    name = "lora-why-b-zero"
    while get_question(name).ask() not in told(app):
        press(app, "Skip this question")
    box = next(each for each in app.text_area if each.label == "Your answer")
    typed = "With B at zero the product BA is zero, so the output is unchanged. *I like cats*."
    box.set_value(typed)
    press(app, "Show the model answer")
    assert typed in [each.value for each in app.text], "shown as typed"
    assert SELF_CHECK in told(app)

    def boxes() -> list[Any]:
        points = get_question(name).listen_for
        found = [each for each in app.checkbox if each.label in points]
        assert [each.label for each in found] == list(points)
        return found

    def suggested() -> list[str]:
        ratings = [each for each in app.button if (each.key or "").startswith("rate-")]
        return [str(each.key) for each in ratings if each.proto.type == "primary"]

    assert not any(each.value for each in boxes()), "nothing is ticked by the app"
    assert suggested() == []
    checked(boxes()[0].check().run())
    assert suggested() == ["rate-again"], "one of three"
    for number in (1, 2):
        checked(boxes()[number].check().run())
    assert suggested() == ["rate-good"], "all of them"


def test_a_day_is_planned_for_and_kept(clock: Clock) -> None:
    app = opened()
    assert "ten minutes" in told(app)
    app.date_input[0].set_value((clock.now + timedelta(days=5)).date()).run()
    assert "**In 5 days**" in told(checked(app))
    assert any("too few answers" in each.proto.body for each in app.get("html"))
    assert Learners(clock=clock).kept("Me", "interview_on") == "2026-03-07"
    clock.now += timedelta(days=6)
    assert "ten minutes" in told(opened()), "that day has passed"


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"role": "enginer", "tab": "interview"}, "'engineer'"),
        ({"topic": "lroa"}, "'lora'"),
        ({"level": "expert"}, "'expert'"),
        ({"model": "gpt-5"}, "no model called"),
        ({"seed": "x", "tab": "interview"}, "whole number"),
        ({"seed": "9" * 5000, "tab": "interview"}, "too far from 0"),
        ({"profile": "Nobody"}, "'Nobody'"),
    ],
)
def test_a_bad_address_is_told_at_its_control(clock: Clock, address: dict[str, str], message: str) -> None:
    assert message in told(opened(**address))


@pytest.mark.slow
def test_the_server_never_imports_torch(own_home: Path) -> None:
    lines = (
        "import sys",
        "from tests.ui.test_practice import opened",
        "for page in ('practice', 'myths'): opened(page)",
        "opened(tab='interview')",
        "sys.exit('torch' in sys.modules)",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


TOPIC, LEVEL = "lora", "basic"


def test_a_learner_is_deleted_once_confirmed_and_comes_back_from_a_file(clock: Clock) -> None:
    file = Learners(clock=clock)
    for name in ("Ada", "Bo"):
        file.create(name)
    file.rate("Ada", "lora-one-map", "good")
    tour.visit(file, "Ada", FIRST, 2)
    exported = json.loads(json.dumps(export_profile(file, "Ada")))
    app = opened(profile="Ada")
    assert next(button for button in app.button if button.label == "Delete").disabled
    next(box for box in app.checkbox if box.label == "Permanently delete Ada").check().run()
    press(app, "Delete")
    assert [*file.names()] == ["Bo"] == [who(app).value]
    for content, refused in ((b"[" * 100_000, True), (json.dumps(exported).encode(), False)):
        boxes: Any = app.get("file_uploader")
        upload = next(box for box in boxes if box.label == "Import an exported learner")
        upload.set_value(("Ada.json", content, "application/json"))
        press(app, "Import")
        assert any("JSON" in error.value for error in app.error) == refused
    assert who(app).value == "Ada" and export_profile(file, "Ada") == exported
