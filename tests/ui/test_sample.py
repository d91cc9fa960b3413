"""A run's sample on its page: which answers are shown, how they are marked, what is still to come; and a failed run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory.format import Example, RecordedAnswer, asked_states, shipped
from peft_lab.runs import admission, store
from peft_lab.runs.owners import myself
from peft_lab.runs.spec import RunRequest
from peft_lab.training.tasks.tags import TASK
from peft_lab.ui.method.sample import sample_html
from peft_lab.ui.server import sessions
from tests.conftest import link
from tests.prose import says
from tests.ui.test_pages import came, opened, told

RECORDED = shipped("lora")


def card(step: int, steps: int = 25, going: bool = True) -> str:
    assert RECORDED.example is not None
    return sample_html(
        RECORDED.example,
        [one for one in RECORDED.answers if one.step <= step],
        asked_states(steps),
        step,
        going,
    )


def boxes(html: str) -> list[str]:
    return re.findall(r'<div class="answer.*?</div>', html, re.DOTALL)


def spans(html: str, kind: str) -> list[str]:
    return re.findall(rf'<span class="{kind}">(.*?)</span>', html.replace("&quot;", '"'))


def test_the_answers_at_the_steps_that_every_run_is_asked_at_are_shown() -> None:
    assert [re.findall(r"Step (\d+)", box) for box in boxes(card(60, steps=60))] == [
        [str(step)] for step in (0, 5, 10, 15, 25, 60)
    ]
    assert [re.findall(r"Step (\d+)", box) for box in boxes(card(12))] == [["0"], ["5"], ["10"], ["12"]]


def test_fields_are_marked_and_the_newest_answer_is_lit() -> None:
    *_, before, newest = boxes(card(10))
    assert 'class="answer now"' in newest and 'class="answer now"' not in before
    assert says(newest, "3 of 5 fields right")
    assert spans(newest, "right") == ['"name"', '"Martin"', '"time"', '"8:00 am"', '"size"', '"large"']
    assert spans(newest, "wrong") == ['"items"', '"salad"', '"size_hint"', '"large"']
    assert [name.split()[0] for name in spans(newest, "missing")] == ["item", "quantity"]
    assert spans(before, "right") == []
    last = boxes(card(25))[-1]
    assert len(spans(last, "right")) == 10 and spans(last, "wrong") == spans(last, "missing") == []


def test_tagged_spans_are_marked_with_their_names() -> None:
    example = Example("<b>, two teas", (), "< b > , two/B-quantity teas/B-item", TASK.metric)
    answer = RecordedAnswer(0, "</B-name b/I-name > , two/B-quantity teas", 0.0)
    html = sample_html(example, [answer], asked_states(25), 1, True)
    assert spans(html, "wrong")[0] == "&lt;b <small>name</small>"
    assert spans(html, "right")[0] == "two <small>quantity</small>"
    assert [name.split()[0] for name in spans(html, "missing")] == ["item"]
    assert says(html, "1 of 2 fields right")


@pytest.mark.parametrize(
    ("step", "going", "following"), [(10, True, 15), (12, True, 15), (25, True, None), (12, False, None)]
)
def test_what_is_asked_next_is_said_while_it_trains(step: int, going: bool, following: int | None) -> None:
    found = re.findall(r'<span class="next">(.*?)</span>', card(step, going=going))
    assert found == ([f"the model is asked again at step {following}"] if following else [""])


@pytest.mark.parametrize("example", [None, RECORDED.example])
def test_before_the_first_answer_its_step_is_named_in_the_room_that_answers_take(
    example: Example | None,
) -> None:
    html = sample_html(example, [], asked_states(25), 2, True)
    assert re.findall(r"step (\d+)", html) == ["5"] and boxes(html) == []
    along = 'class="along" role="group" tabindex="0"'  # scrolls: reached by keyboard
    assert along in html and along in card(10) and along not in card(25, going=False)


def test_before_the_first_run_a_recorded_one_answers() -> None:
    """LoRA's was recorded on the task that its page opens with; on another task there is none."""
    (shown,) = (
        one.proto.body for one in opened("lora", tab="train").get("html") if "Martin" in one.proto.body
    )
    assert [re.findall(r"Step (\d+)", box) for box in boxes(shown)] == [["0"], ["10"], ["60"]]
    other = opened("lora", tab="train", task="style").get("html")
    assert not [one for one in other if "Martin" in one.proto.body]


def test_what_a_model_writes_stays_text() -> None:
    assert RECORDED.example is not None
    answer = RecordedAnswer(0, '<script>alert("x")</script>{"item": "<b>"}', 0.0)
    assert "<script" not in sample_html(RECORDED.example, [answer], asked_states(25), 1, True)
    assert '<b>"' not in sample_html(RECORDED.example, [answer], asked_states(25), 1, True)


@pytest.fixture
def failed(assets_home: Any, own_home: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of a run of this browser that failed at its fourth step."""
    link(own_home)
    monkeypatch.setattr(sessions, "_sent", lambda: "a-browser-of-these-tests")
    run = store.create(RunRequest("minilm-l6", "bitfit", "sentiment", steps=9, learning_rate=0.5).complete())
    run.log.emit("queued", owner=myself().to_dict())
    run.log.emit("failed", message="At step 4 the loss is not a number.", works={"learning_rate": 0.05})
    store.note_starter(run, "a-browser-of-these-tests")
    yield run.id
    store.delete(run.id)


@pytest.mark.weights
def test_a_failed_run_says_what_happened_and_offers_what_would_work(failed: str) -> None:
    app = opened("bitfit", model="minilm-l6", tab="train", lr="0.5", steps="9", run=failed)
    assert says(told(app), "At step 4 the loss is not a number", "0.05", "nothing was lost")
    assert [button.label for button in app.button if button.key == "bitfit-remedy"] == ["Train it this way"]
    assert not app.error


@pytest.mark.weights
def test_a_refused_start_offers_what_would_work(
    assets_home: Any, own_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(own_home)
    error = BadInput("This run does not fit.", "batch").with_works(batch=16, max_length=32)
    monkeypatch.setattr(admission, "refusal", lambda spec: error)
    app = opened("bitfit", model="minilm-l6", tab="train")
    next(button for button in app.button if button.key == "bitfit-train").click()
    assert says(told(came(app.run())), "This run does not fit.", "16")
    next(button for button in app.button if button.key == "bitfit-remedy").click()
    assert next(box for box in came(app.run()).number_input if box.label == "Batch size").value == 16
