"""One truth about a run on its method's page: which run is shown, its peak, and when a queued one starts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.runs import checkpoints, store
from peft_lab.runs.owners import myself
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.training.tasks import get_task
from peft_lab.ui.runs.shown import read_insight, recorded
from peft_lab.ui.server import sessions
from tests.conftest import link
from tests.prose import says
from tests.ui.test_pages import opened, told
from tests.waits import SECONDS

pytestmark = pytest.mark.weights
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


def test_a_model_known_by_its_shape_has_a_simulated_peak_and_is_not_told_to_train() -> None:
    app = opened("bitfit", model="gpt2", tab="train")
    value, note = tile(app)
    assert re.fullmatch(r"[\d.]+ [MG]B", value)
    assert "simulated" in note and "batch of 8 × 64 tokens in bfloat16" in note
    value, reason = tile(app, "Before → after training")
    assert value == "–" and says(reason, "cannot be trained")


def test_a_page_opened_anew_finds_the_run_of_its_own_browser(runs: Any) -> None:
    run = runs(START, READY, step(1))
    app = opened("bitfit", model="minilm-l6", tab="train")
    assert "**Training** · step 1 of 2" in told(app)
    assert app.query_params["run"] == run.id
    assert not [button for button in app.button if button.label == "Train"]
    looking = opened("bitfit", model="minilm-l6", tab="inside")
    assert says(told(looking), "When your run has ended")


def test_an_encoders_page_opens_with_the_order_and_a_runs_address_with_its_task(runs: Any) -> None:
    def task(app: AppTest) -> str:
        return str(next(box.value for box in app.selectbox if box.label == "Task"))

    assert task(opened("bitfit", model="minilm-l6", tab="train")) == "tags"
    run = runs(START, READY, step(1))
    assert task(opened("bitfit", model="minilm-l6", tab="train", run=run.id)) == run.spec.task != "tags"


@pytest.mark.slow
def test_the_text_that_virtual_tokens_start_from_follows_the_task_until_it_is_written() -> None:
    def area(app: AppTest) -> Any:
        return next(box for box in app.text_area if box.label == "Initial text")

    app = opened("prompt", model="minilm-l6")
    assert area(app).value == get_task("tags").start_text
    task = next(box for box in app.selectbox if box.label == "Task")
    task.set_value("sentiment").run()
    assert area(app).value == get_task("sentiment").start_text
    assert "prompt_tuning_init_text" not in app.query_params
    area(app).set_value("Good or bad?").run()
    assert app.query_params["prompt_tuning_init_text"] == "Good or bad?"
    other = opened("prompt", model="minilm-l6", task="sentiment", prompt_tuning_init_text="Good or bad?")
    assert area(other).value == "Good or bad?" and not other.exception


@pytest.mark.slow
def test_a_run_of_another_method_in_the_address_is_not_shown_as_one_of_this(runs: Any) -> None:
    run = runs(START, READY, step(1), step(2), memory(5_000))
    app = opened("lora", run=run.id, tab="train")
    assert not app.exception
    assert says(told(app), "BitFit", "page")
    assert not app.button(key="lora-train").disabled


def test_a_run_whose_model_is_gone_is_shown_without_what_needs_it(runs: Any) -> None:
    run = runs(START, READY, step(1), step(2), memory(5_000))
    asked = run.folder / "spec.json"
    asked.write_text(asked.read_text("utf-8").replace("minilm-l6", "/gone/my-model"), "utf-8")
    app = opened("bitfit", run=run.id, tab="train")
    assert not app.exception
    assert "This run trained /gone/my-model" in told(app) and "Peak" in told(app)


@pytest.mark.parametrize("mark", [None, "another-browser-entirely"])
def test_nobody_elses_run_is_taken_for_ones_own(runs: Any, mark: str | None) -> None:
    runs(START, READY, step(1), mark=mark)
    app = opened("bitfit", model="minilm-l6", tab="train")
    assert [button for button in app.button if button.label == "Train"]
    assert "run" not in app.query_params


def test_a_run_that_ended_gives_the_way_to_the_one_that_has_not(runs: Any) -> None:
    old = runs(START, READY, step(1), {"kind": "done", "message": ""})
    new = runs(START, READY, step(1))
    app = opened("bitfit", model="minilm-l6", tab="train", run=old.id)
    assert "not ended" in told(app)
    app.button(key="bitfit-show-live").click().run()
    assert app.query_params["run"] == new.id


def test_a_queued_run_says_what_is_before_it_and_about_when_it_starts(runs: Any) -> None:
    first = runs(START, READY, step(1, seconds=30.0), method="lora", eval_rows=0)
    queued = runs()
    app = opened("bitfit", model="minilm-l6", tab="train", run=queued.id)
    assert says(told(app), "Queued", "1 run", "30 s")
    way = app.button(key=f"bitfit-before-{first.id}")
    assert way.label == "LoRA on all-MiniLM-L6-v2 · step 1 of 2"
    assert way.proto.wrap, "in its narrow column the number of steps was cut off"


@pytest.mark.slow
def test_a_queued_run_waits_for_no_one_who_is_gone(runs: Any) -> None:
    gone = runs(START, READY, mark=None)
    text = gone.log.path.read_text("utf-8").replace('"started": ', '"started": 1')
    gone.log.path.write_text(text, "utf-8")
    queued = runs()
    app = opened("bitfit", model="minilm-l6", tab="train", run=queued.id)
    assert "**Queued** · next in line" in told(app)


def test_a_damaged_note_of_who_started_a_run_is_nobodys(runs: Any) -> None:
    run = runs(mark=None)
    for content in ("", "[]", '{"browser": 3}', "\x00", "[" * 100_000):
        (run.folder / store.STARTER_FILE).write_text(content, "utf-8")
        assert store.started_by(run) is None


@pytest.mark.parametrize(
    ("task", "first", "other"), [("sentiment", "warm", "Best"), ("tweets", "Best", "warm")]
)
@pytest.mark.slow
def test_the_token_strip_shows_the_chosen_tasks_example(task: str, first: str, other: str) -> None:
    app = opened("lora", model="minilm-l6", task=task)
    (drawing,) = [part.proto.json for part in app.get("bidi_component") if '"narrow"' in part.proto.json]
    assert f">{first}<" in drawing and "Anna" not in drawing and f">{other}<" not in drawing


@pytest.mark.parametrize(("task", "recorded_on"), [("json", True), ("style", False)])
@pytest.mark.slow
def test_beside_a_recorded_run_the_token_strip_shows_its_row(task: str, recorded_on: bool) -> None:
    """Train showed two orders: the recorded row's answers, and another one's words under the block."""
    app = opened("lora", model="smollm2-135m", task=task, tab="train")
    (drawing,) = [part.proto.json for part in app.get("bidi_component") if '"narrow"' in part.proto.json]
    (shown,) = re.findall(r'"show": ?\[([^]]*)\]', drawing)
    assert (">Martin<" in drawing) is recorded_on
    assert ('"answers"' in shown) is not recorded_on, "the tab has them already"


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


def test_a_run_that_kept_no_states_says_so_beside_the_recorded_one(runs: Any) -> None:
    run = runs(START, READY, step(1), {"kind": "done", "message": ""})
    shown, title = recorded("bitfit", "minilm-l6", run)
    assert shown is not None and says(title, "Recorded run")
    assert recorded("bitfit", "minilm-l6") == (shown, "Recorded run")


def test_the_picture_of_a_run_that_went_on_is_read_anew(runs: Any) -> None:
    run = runs(START, READY, {"kind": "stopped", "message": ""})
    (run.folder / "insight.json").write_text('{"snapshots": [1]}')
    assert read_insight(run.id) == {"snapshots": [1]}
    checkpoints.reopen(run, myself(), anew=True)
    (run.folder / "insight.json").write_text('{"snapshots": [1, 2]}')
    run.log.emit("done", message="")
    assert read_insight(run.id) == {"snapshots": [1, 2]}
