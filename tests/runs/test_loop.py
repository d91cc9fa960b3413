"""The training loop step by step, on models of a few thousand parameters: what is done when, and with which numbers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core import inspector, machine
from peft_lab.core.errors import RunError
from peft_lab.drawing.trajectory.recorder import Answering
from peft_lab.runs import child, store, training
from peft_lab.runs.spec import RunRequest, Schedule
from peft_lab.runs.store import Run
from peft_lab.training import batches
from peft_lab.training import step as loop
from peft_lab.training.step import rate_at
from tests.conftest import link
from tests.prose import facts
from tests.takeaway.conftest import byte_tokenizer

WIDTH, LAYERS, ROWS = 64, 2, 40
RATE = 0.01


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a BERT and a Llama with random weights."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    size: dict[str, Any] = {
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 96,
        "vocab_size": 300, "max_position_embeddings": 256,
    }  # fmt: skip
    made = {"encoder": BertModel(BertConfig(**size)), "causal-lm": LlamaForCausalLM(LlamaConfig(**size))}
    folder = tmp_path_factory.mktemp("models")
    for kind, model in made.items():
        model.save_pretrained(folder / kind)
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = "{% for turn in messages %}{{ turn.content }}{% endfor %}>"
        tokenizer.save_pretrained(folder / kind)
    return {kind: str(folder / kind) for kind in made}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = (
        json.dumps({"text": f"row {n} " * (1 + n % 3), "label": ("bad", "good")[n % 2]}) for n in range(ROWS)
    )
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def in_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of these tests' own, nothing asked of other processes, and the same precision everywhere."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        link(home)
        patch.setenv("PEFT_LAB_HOME", str(home))
        patch.setattr(inspector, "ask", lambda function, *given: function(*given))
        patch.setattr(machine, "compute_dtype", lambda: torch.float32)
        yield


@pytest.fixture(scope="module")
def spec(models: dict[str, str], rows: str) -> RunRequest:
    return RunRequest(
        models["encoder"], "lora", "own", {"r": 2}, steps=16, batch=4, eval_rows=5, seed=1, learning_rate=RATE,
        own_data=rows, probes=("a row",), warmup=0.25,
    )  # fmt: skip


@pytest.fixture(scope="module")
def generates(models: dict[str, str]) -> RunRequest:
    return RunRequest(
        models["causal-lm"], "lora", "json", {"r": 2}, steps=2, batch=2, eval_rows=1, compared=True
    )


def begun(spec: RunRequest) -> Run:
    run = store.create(spec.complete())
    run.log.emit("queued", owner={})
    return run


def carried_out(spec: RunRequest) -> Run:
    run = begun(spec)
    child.end_run(run, *training.train(run))
    return run


@pytest.fixture(scope="module")
def finished(spec: RunRequest) -> Run:
    return carried_out(spec)


def share(spec: RunRequest, step: int) -> float:
    return rate_at(step, spec.steps or 0, spec.warmup, spec.schedule)


def of(run: Run, kind: str) -> list[dict[str, Any]]:
    return [event for event in run.events() if event["type"] == kind]


def test_every_step_is_told_with_the_rate_it_was_made_at(finished: Run) -> None:
    spec, steps = finished.spec, of(finished, "step")
    assert [step["step"] for step in steps] == list(range(1, 17))
    assert [step["lr"] for step in steps] == pytest.approx([RATE * share(spec, at) for at in range(16)])
    assert all(0 < step["seconds"] < 60 and step["tokens"] >= 4 and step["grad_norm"] > 0 for step in steps)
    assert [step["step"] for step in steps if step["tracked"]] == [3], "when the optimizer has its states"
    assert len([event for event in of(finished, "memory") if "peak_bytes" in event]) == 1


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_short_run_measures_its_last_step(spec: RunRequest, steps: int) -> None:
    run = carried_out(replace(spec, steps=steps, eval_rows=0, probes=()))
    assert [step["step"] for step in of(run, "step") if step["tracked"]] == [steps]


def test_what_is_trained_is_counted_without_the_head(finished: Run) -> None:
    (ready,) = of(finished, "ready")
    assert ready["trainable"] == LAYERS * 2 * 2 * (WIDTH + WIDTH)  # A and B of rank 2, on query and value
    assert ready["head"] == 2 * (WIDTH + 1)
    assert ready["rows"] == len(finished.spec.task_object().load().train)
    assert (ready["dtype"], ready["learning_rate"]) == ("float32", RATE)


def test_tuned_and_base_model_are_scored_and_asked(finished: Run) -> None:
    assert [(event["which"], event["rows"]) for event in of(finished, "evaluated")] == [
        ("tuned", 5),
        ("base", 5),
    ]
    assert [event["which"] for event in of(finished, "probe")] == ["tuned", "base"]
    assert of(finished, "evaluating")[0]["done"] == 0 and of(finished, "evaluating")[-1]["done"] == 5
    assert of(finished, "inference") == of(finished, "unrelated") == []


def test_the_first_answer_comes_before_the_first_step_and_an_equal_start_answers_once(
    generates: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, bool, int]] = []  # the state, whether the tuned model was scored, its steps so far
    told: list[list[int]] = []  # the states whose answers a page can read, at each step
    ask, report = Answering._ask, training.report_step

    def noted(answering: Answering, step: int) -> None:
        scored = any(event["which"] == "tuned" for event in of(run, "evaluated"))
        asked.append((step, scored, len(of(run, "step"))))
        ask(answering, step)

    def reported(run: Run, *given: Any) -> None:
        seen = run.trajectory()
        told.append([] if seen is None else [answer.step for answer in seen.answers])
        report(run, *given)

    monkeypatch.setattr(Answering, "_ask", noted)
    monkeypatch.setattr(training, "report_step", reported)
    answered = []
    for seed, first in ((3, True), (3, False), (4, True)):
        run = begun(replace(generates, compared=False, probes=("a row",), seed=seed))
        asked.clear()
        told.clear()
        training.train(run)
        kinds = [(event["type"], event.get("which")) for event in run.events()]
        assert kinds.index(("evaluated", "tuned")) < kinds.index(("probe", "tuned"))
        assert [each for each in asked if each[0] == 0] == [(0, False, 0)] * first
        assert told[0] == [0]
        assert all(scored for step, scored, _ in asked if step), "the score would wait for them"
        assert [each for each in asked if each[0] == 2] == [(2, True, 2)]
        seen = run.trajectory()
        assert seen is not None and seen.answers[0].step == 0 and seen.answers[-1].step == 2
        answered.append(seen.answers)
    assert answered[0] == answered[1]


def test_nothing_is_scored_or_asked_unasked(spec: RunRequest) -> None:
    run = carried_out(replace(spec, steps=1, eval_rows=0, probes=()))
    assert of(run, "evaluated") == of(run, "evaluating") == of(run, "probe") == []
    assert run.insight() == {} and run.view().status == "done"


def test_a_stop_is_heard_before_the_next_step(spec: RunRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(spec)
    monkeypatch.setattr(Run, "asked_to_stop", lambda run: len(of(run, "step")) == 3)
    ending, message = training.train(run)
    assert ending == "stopped" and "after 3 of 16" in message and run.adapter.is_dir()
    assert not [event for event in of(run, "evaluated") if "scored_by" not in event]


def test_a_stop_after_the_last_step_ends_the_scoring(
    spec: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(replace(spec, steps=2, probes=()))
    monkeypatch.setattr(Run, "asked_to_stop", lambda run: len(of(run, "step")) == 2)
    ending, message = training.train(run)
    assert ending == "stopped" and "all 2 steps" in message
    assert not [event for event in of(run, "evaluated") if "scored_by" not in event]  # the base may be known


@pytest.mark.parametrize(("loss", "norm"), [(math.inf, 1.0), (1.0, math.inf), (math.nan, math.nan)])
def test_what_is_no_number_ends_the_run(
    loss: float, norm: float, spec: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the loss, or in the gradients alone; the step is named as a person counts."""
    import torch

    calls = iter(range(99))
    true_loss = batches.loss_of

    def second(normal: float, wrong: float) -> float:
        return wrong if next(calls) // 2 else normal

    monkeypatch.setattr(loop, "loss_of", lambda *given: true_loss(*given) * second(1.0, loss))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_, **__: torch.tensor(second(1.0, norm)))
    with pytest.raises(RunError, match=facts("step 2", "0.01")):
        training.train(begun(spec))


def test_gradients_are_clipped_at_what_is_asked_and_with_nought_not_at_all(
    spec: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    limits: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def recorded(given: Any, limit: float, **_: Any) -> Any:
        limits.append(limit)
        return clip(given, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recorded)
    for asked in (0.5, 0.0):
        carried_out(replace(spec, steps=1, clip=asked, eval_rows=0, probes=()))
    assert limits == [0.5, math.inf]


class Slow:
    """Scores ten rows, one every 80 ms, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def evaluate(self, _: object, rows: list[object], report: Callable[[int, int, int], None]) -> Any:
        from peft_lab.training.evaluation import Evaluation

        for done in range(len(rows) + 1):
            report(done, len(rows), done // 2)
            self.now += 0.08
        return Evaluation(loss=1.0, rows=len(rows), seconds=1.0, metrics={})


def test_progress_is_told_five_times_a_second_and_at_both_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[int] = []

    def emit(kind: str, **said: Any) -> None:
        if kind == "evaluating":
            told.append(said["done"])

    slow = Slow()
    run = SimpleNamespace(log=SimpleNamespace(emit=emit), asked_to_stop=lambda: False)
    ready: Any = SimpleNamespace(run=run, spec=SimpleNamespace(probes=()), test=[None] * 10)
    monkeypatch.setattr(time, "monotonic", lambda: slow.now)
    training._examine(ready, slow, "tuned", None)  # type: ignore[arg-type]
    assert told == [0, 3, 6, 9, 10]


# ----------------------------------------
# The learning rate over a run: it rises from its first step on, is whole once, and falls towards zero.


def test_a_linear_schedule_by_hand() -> None:
    """Ten steps, three of them rising: 1/4, 2/4, 3/4, then 1 and seven steps of a seventh down."""
    found = [rate_at(step, 10, 0.3, "linear") for step in range(10)]
    assert found == pytest.approx([0.25, 0.5, 0.75, *(1 - step / 7 for step in range(7))])


@given(st.integers(1, 300), st.floats(0, 0.9), st.sampled_from(["linear", "cosine"]))
def test_no_step_is_wasted(steps: int, warmup: float, schedule: Schedule) -> None:
    """A rate of zero trains nothing: no step has it, the first least of all; exactly one has the whole rate."""
    found = [rate_at(step, steps, warmup, schedule) for step in range(steps)]
    peak = min(round(steps * warmup), steps - 1)
    assert min(found) > 0 and max(found) == found[peak] == 1
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found.count(1.0) == 1
