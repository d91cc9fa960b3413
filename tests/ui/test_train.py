"""Train: one truth about a run on its page, how long it takes, which answers are shown, what a failure offers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory.format import Example, RecordedAnswer, asked_states, shipped
from peft_lab.engine.timing import here
from peft_lab.engine.timing.kernels import CONSTANTS
from peft_lab.runs import admission, checkpoints, store, waiting
from peft_lab.runs.owners import myself
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.training.tasks.tags import TASK
from peft_lab.ui.method.sample import sample_html
from peft_lab.ui.runs.shown import read_insight
from peft_lab.ui.server import sessions
from tests.conftest import link
from tests.prose import says
from tests.ui.test_pages import came, opened, told
from tests.waits import SECONDS

MARK = "a-browser-of-these-tests"

LITTLE = {"model": "minilm-l6", "task": "sentiment", "tab": "train", "steps": "2", "batch": "4"}


@pytest.fixture
def runs(assets_home: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes runs as this browser's pages would leave them on disk, without training; no other test's are there."""
    link(own_home)
    monkeypatch.setattr(sessions, "_sent", lambda: MARK)
    made: list[Run] = []

    def make(*events: dict[str, Any], mark: str | None = MARK, **settings: Any) -> Run:
        asked: dict[str, Any] = {"method": "bitfit", "task": "sentiment", "steps": 2, "batch": 4} | settings
        spec = RunRequest("minilm-l6", **asked)
        run = store.create(spec.complete())
        run.log.emit("queued", owner=myself().to_dict())
        for event in events:
            run.log.emit(**event)
        if mark is not None:
            store.note_starter(run, mark)
        made.append(run)
        return run

    yield make
    for run in made:
        if not run.view().status.final:
            run.log.emit("stopped", message="Stopped after 1 of 2 steps; the adapter was saved.")
        store.delete(run.id)


START = {"kind": "starting"}

READY = {"kind": "ready", "trainable": 5}


def step(number: int, seconds: float = 0.5) -> dict[str, Any]:
    return {
        "kind": "step",
        "step": number,
        "loss": 1.0,
        "lr": 0.1,
        "grad_norm": 1.0,
        "tokens": 9,
        "seconds": seconds,
    }


def memory(peak: int) -> dict[str, Any]:
    return {"kind": "memory", "peak_bytes": peak, "parts": {"weights": peak}, "rows": 4, "length": 11}


def tile(app: AppTest, label: str = "Peak memory, one step") -> tuple[str, str]:
    """The figure of a headline tile, and what stands under it."""
    until = time.monotonic() + SECONDS
    while any("Simulating" in element.value for element in app.caption) and time.monotonic() < until:
        time.sleep(0.2)
        app.run()
    assert not app.exception
    (cell,) = [list(cell.children.values()) for cell in _cells(app.main, label)]
    (card,) = [element for element in cell if element.type == "metric"]
    beside = [str(element.value) for element in cell if element.type in ("markdown", "caption")]
    return str(card.value), " ".join(beside)


def _cells(block: Any, label: str) -> Iterator[Any]:
    """The innermost blocks that hold the figure of that name."""
    inside = list(block.children.values())
    if any(getattr(element, "label", None) == label and element.type == "metric" for element in inside):
        yield block
    for element in inside:
        if hasattr(element, "children"):
            yield from _cells(element, label)


@pytest.mark.weights
def test_before_a_run_the_peak_is_simulated_and_measured_as_soon_as_it_is_there(runs: Any) -> None:
    app = opened("bitfit", **LITTLE)
    value, note = tile(app)
    assert re.fullmatch(r"[\d.]+ MB", value)
    assert "simulated" in note and "4 × " in note

    run = runs(START, READY, step(1))  # trains, nothing measured yet
    app = opened("bitfit", **LITTLE, run=run.id)
    assert tile(app)[0] == value

    run.log.emit(**memory(811_000_000))
    app = opened("bitfit", **LITTLE, run=run.id)
    value, note = tile(app)
    assert value == "811 MB"
    assert "measured" in note and "4 × 11 tokens" in note
    assert "811 MB" in told(app)

    run.log.emit("stopped", message="Stopped after 1 of 2 steps; the adapter was saved.")
    app = opened("bitfit", **LITTLE, run=run.id)
    assert tile(app)[0] == "811 MB"
    assert says(told(app), "Stopped", "1 of 2")


@pytest.mark.weights
def test_a_page_reads_what_a_run_has_added_once(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs(START, READY, step(1), steps=9)
    app = opened("bitfit", **LITTLE | {"steps": "9"}, run=run.id)
    assert "step 1 of 9" in told(app)
    opens: list[Path] = []
    plainly = Path.open

    def counted(path: Path, *how: Any, **further: Any) -> Any:
        if path.name == "events.jsonl":
            opens.append(path)
        return plainly(path, *how, **further)

    monkeypatch.setattr(Path, "open", counted)
    run.log.emit(**step(2))
    app.run()
    assert "step 2 of 9" in told(app) and len(opens) == 1
    app.run()
    assert "step 2 of 9" in told(app) and len(opens) == 1


@pytest.mark.weights
@pytest.mark.parametrize("moved", [{"subset": "query_mlp"}, {"batch": "8"}])
@pytest.mark.slow
def test_a_figure_measured_with_other_settings_is_not_passed_off_as_that_of_these(
    runs: Any, moved: dict[str, str]
) -> None:
    run = runs(START, READY, step(1), memory(811_000_000))
    app = opened("bitfit", **LITTLE | moved, run=run.id)
    value, note = tile(app)
    assert value != "811 MB"
    [more] = [metric.proto.help for metric in app.metric if metric.label == "Peak memory, one step"]
    assert "simulated" in note and says(more, "811 MB", "other settings")


@pytest.mark.weights
def test_a_page_opened_anew_finds_the_run_of_its_own_browser(runs: Any) -> None:
    run = runs(START, READY, step(1))
    app = opened("bitfit", model="minilm-l6", tab="train")
    assert "**Training** · step 1 of 2" in told(app)
    assert app.query_params["run"] == run.id
    assert not [button for button in app.button if button.label == "Train"]
    looking = opened("bitfit", model="minilm-l6", tab="inside")
    assert says(told(looking), "When your run has ended")


@pytest.mark.weights
@pytest.mark.slow
def test_a_run_of_another_method_in_the_address_is_not_shown_as_one_of_this(runs: Any) -> None:
    run = runs(START, READY, step(1), step(2), memory(5_000))
    app = opened("lora", run=run.id, tab="train")
    assert not app.exception
    assert says(told(app), "BitFit", "page")
    assert not app.button(key="lora-train").disabled


@pytest.mark.weights
def test_a_run_whose_model_is_gone_is_shown_without_what_needs_it(runs: Any) -> None:
    run = runs(START, READY, step(1), step(2), memory(5_000))
    asked = run.folder / "spec.json"
    asked.write_text(asked.read_text("utf-8").replace("minilm-l6", "/gone/my-model"), "utf-8")
    app = opened("bitfit", run=run.id, tab="train")
    assert not app.exception
    assert "This run trained /gone/my-model" in told(app) and "Peak" in told(app)


@pytest.mark.weights
@pytest.mark.parametrize("mark", [None, "another-browser-entirely"])
def test_nobody_elses_run_is_taken_for_ones_own(runs: Any, mark: str | None) -> None:
    runs(START, READY, step(1), mark=mark)
    app = opened("bitfit", model="minilm-l6", tab="train")
    assert [button for button in app.button if button.label == "Train"]
    assert "run" not in app.query_params


@pytest.mark.weights
def test_a_run_that_ended_gives_the_way_to_the_one_that_has_not(runs: Any) -> None:
    old = runs(START, READY, step(1), {"kind": "done", "message": ""})
    new = runs(START, READY, step(1))
    app = opened("bitfit", model="minilm-l6", tab="train", run=old.id)
    assert "not ended" in told(app)
    app.button(key="bitfit-show-live").click().run()
    assert app.query_params["run"] == new.id


@pytest.mark.weights
def test_a_queued_run_says_what_is_before_it_and_about_when_it_starts(runs: Any) -> None:
    first = runs(START, READY, step(1, seconds=30.0), method="lora", eval_rows=0)
    queued = runs()
    app = opened("bitfit", model="minilm-l6", tab="train", run=queued.id)
    assert says(told(app), "Queued", "1 run", "30 s")
    way = app.button(key=f"bitfit-before-{first.id}")
    assert way.label == "LoRA on all-MiniLM-L6-v2 · step 1 of 2"
    assert way.proto.wrap, "in its narrow column the number of steps was cut off"


@pytest.mark.weights
@pytest.mark.slow
def test_a_run_that_ended_too_early_offers_to_go_on(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a state of it was kept; on its method's page and in the list of runs."""
    asked: list[str] = []
    monkeypatch.setattr("peft_lab.runs.queue.RunQueue.go_on", lambda self, identity: asked.append(identity))
    run = runs(START, READY, step(1), {"kind": "stopped", "message": "Stopped after 1 of 2 steps."})
    app = opened("bitfit", **LITTLE, run=run.id)
    assert not [button for button in app.button if button.label == "Continue"]
    (run.folder / "checkpoint-1-10.pt").write_bytes(b"")
    app = opened("bitfit", **LITTLE, run=run.id)
    button = next(button for button in app.button if button.label == "Continue")
    assert says(button.help, "step 1 of 2")
    button.click().run(timeout=SECONDS)
    assert asked == [run.id]
    monkeypatch.setattr("peft_lab.ui.runs.page.rows", lambda *_: run.id)  # its row is chosen
    app = opened("runs")
    next(button for button in app.button if button.label == "Continue").click().run(timeout=SECONDS)
    assert asked == [run.id, run.id]


@pytest.mark.weights
def test_the_picture_of_a_run_that_went_on_is_read_anew(runs: Any) -> None:
    run = runs(START, READY, {"kind": "stopped", "message": ""})
    (run.folder / "insight.json").write_text('{"snapshots": [1]}')
    assert read_insight(run.id) == {"snapshots": [1]}
    checkpoints.reopen(run, myself(), anew=True)
    (run.folder / "insight.json").write_text('{"snapshots": [1, 2]}')
    run.log.emit("done", message="")
    assert read_insight(run.id) == {"snapshots": [1, 2]}


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


@pytest.mark.slow
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


@pytest.mark.weights
def test_a_failed_run_says_what_happened_and_offers_what_would_work(runs: Any) -> None:
    failed = {
        "kind": "failed",
        "message": "At step 4 the loss is not a number.",
        "works": {"learning_rate": 0.05},
    }
    run = runs(failed, steps=9, learning_rate=0.5)
    app = opened("bitfit", model="minilm-l6", tab="train", lr="0.5", steps="9", run=run.id)
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


SPEED = dict.fromkeys(CONSTANTS, 1e11) | dict.fromkeys(("start", "column", "ask", "view"), 1e-6)


@pytest.fixture(autouse=True)
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "place", lambda: tmp_path / here.FILE)


def _button(app: Any, key: str) -> Any:
    return next(button for button in app.button if button.key == key)


def test_once_the_machine_is_measured_the_button_says_how_long() -> None:
    live = {"minilm-l6": [1.0, 45e6], "smollm2-135m": [2.0, 270e6]}
    here.keep({"constants": SPEED, "loading": {"models": live, "pack": 1e9}})
    app = opened("ia3")
    label = _label_with_seconds(app, "ia3-train")
    assert label.startswith("Train · about ") and label.endswith(" s")
    assert any("measured speed" in caption.value for caption in app.caption)


def _label_with_seconds(app: Any, key: str) -> str:
    until = time.monotonic() + SECONDS
    while "about" not in _button(app, key).label and time.monotonic() < until:
        time.sleep(0.5)
        app.run()
    return str(_button(app, key).label)


def test_before_that_it_is_offered_and_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(waiting, "begin_calibrating", lambda: begun.append(1))
    monkeypatch.setattr(waiting, "calibrating_under_way", lambda: None)
    here.keep({"constants": SPEED})  # of an older version, without what loading takes
    app = opened("ia3")
    assert _button(app, "ia3-train").label == "Train"
    _button(app, "ia3-calibrate").click().run()
    assert begun == [1]
