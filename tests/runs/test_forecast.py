"""What is said of a run's seconds before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.engine.timing import here
from peft_lab.engine.timing.kernels import CONSTANTS
from peft_lab.engine.work import Op, Piece
from peft_lab.runs import course, forecast
from peft_lab.runs import kept as said
from peft_lab.runs.course import BaseScore
from peft_lab.runs.forecast import RunWork, run_work
from peft_lab.runs.kept import MadeForecast
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.view import RunSummary
from peft_lab.training.evaluation import Evaluation, ModelAnswer

STEP = (
    Piece("forward", 1, ((Op("matmul16", 2_000, 0), 1),)),
    Piece("backward", 1, ((Op("matmul16", 4_000, 0), 1),)),
)
#: Of 1,000 operations and 100 bytes a second, and nothing else that takes time.
SPEED = (
    dict.fromkeys(CONSTANTS, 1e12)
    | {"matmul16": 1e3, "memory": 1e2}
    | dict.fromkeys(("start", "column", "ask", "view"), 0.0)
)
KEPT: dict[str, Any] = {"constants": SPEED, "loading": {"models": {"minilm-l6": [3.0, 50.0]}, "pack": 25.0}}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path))
    here.keep(KEPT)


def _spec(**fields: Any) -> RunSpec:
    given: dict[str, Any] = {
        "steps": 10,
        "batch": 8,
        "learning_rate": 1e-3,
        "max_length": 64,
        "eval_rows": 20,
    }
    return RunSpec("minilm-l6", "lora", "sentiment", **{**given, **fields})


WORK = RunWork(STEP, 100.0, 400.0, (), (0, 0), 50, False, {"model": "minilm-l6"})


def test_the_parts_are_steps_scoring_loading_and_recording() -> None:
    found = forecast.forecast(WORK, _spec())
    assert found.parts == pytest.approx({
        "loading": 3.0, "steps": 60.0, "recording": 0.6 * (3 + 0.04 * 60), "scoring": 8.0, "loading the base": 3.0,
        "scoring the base": 8.0,
    })  # fmt: skip
    assert found.seconds == found.plain == pytest.approx(sum(found.parts.values()))


def test_a_base_that_was_scored_takes_nothing() -> None:
    course.keep_base_score(BaseScore(WORK.key, Evaluation({"accuracy": 0.5}, 0.7, 20, 1.0), {}, "a-run"))
    found = forecast.forecast(WORK, _spec())
    assert found.parts["loading the base"] == found.parts["scoring the base"] == 0
    asked = forecast.forecast(WORK, _spec(probes=("a sentence",)))
    assert asked.parts["scoring the base"] > 0, "its answer to this sentence is not known"
    course.keep_base_score(
        BaseScore(
            WORK.key,
            Evaluation({"accuracy": 0.5}, 0.7, 20, 1.0),
            {"a sentence": ModelAnswer("a sentence", "b", {})},
        )
    )
    assert forecast.forecast(WORK, _spec(probes=("a sentence",))).parts["scoring the base"] == 0


def test_an_answer_reads_all_weights_for_every_token() -> None:
    writes = replace(WORK, token=STEP[:1], alone=STEP[:1], answers=(2, 5))
    beside = (
        forecast.forecast(writes, _spec()).parts["scoring"]
        - forecast.forecast(WORK, _spec()).parts["scoring"]
    )
    assert beside == pytest.approx(2 * 5 * (2.0 + 50 / 100))
    for probes, answers in (((), 2), (("A film.",), 3)):  # at steps 0 and 10; one that is watched at 5 too
        spec = _spec(probes=probes)
        of_example = [forecast.forecast(work, spec).parts["recording"] for work in (WORK, writes)]
        assert of_example[1] - of_example[0] == pytest.approx(answers * 5 * (2.0 + 50 / 100))


def test_before_a_measurement_nothing_is_said() -> None:
    here.place().unlink()
    with pytest.raises(BadInput, match="doctor --calibrate"):
        forecast.forecast(WORK, _spec())


def _line(took: float | None, plain: float = 10.0, said_of: float = 10.0, **fields: Any) -> RunSummary:
    kept = MadeForecast(said_of, plain, fields.pop("where", said.forecasts_file()), took)
    given = {"model": "minilm-l6", "method": "lora", "task": "sentiment", **fields}
    return RunSummary("a-run", "done", 0.0, kept=kept, **given)


def test_runs_like_it_correct_it_by_their_median() -> None:
    past = [
        _line(20.0),
        _line(30.0),
        _line(15.0),
        _line(None),
        _line(90.0, method="ia3"),
        _line(90.0, where="other"),
    ]
    found = forecast.forecast(WORK, _spec(), past)
    assert found.like == 3 and found.seconds == pytest.approx(2 * found.plain)


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("minilm-l6", "sentiment"),
        pytest.param("flan-t5-small", "fields", marks=pytest.mark.rest),
        pytest.param("dinov2-small", "digits", marks=pytest.mark.slow),
    ],
)
def test_the_work_of_a_run_is_traced(model: str, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    spec = RunRequest(model, "lora", task, steps=4, eval_rows=70).complete()
    found, twice = run_work(spec.to_dict()), run_work(replace(spec, batch=2 * spec.batch).to_dict())
    assert {piece.phase for piece in found.step} == {"forward", "backward", "optimizer"}
    assert twice.tokens > found.tokens > 0 and found.read > 0
    classifies = task in ("sentiment", "digits")
    assert found.answers[0] == (2 if classifies else 3)
    assert bool(found.token) != classifies
    if task == "digits":  # 6 × 6 patches and the token of the class
        assert (found.tokens, found.read) == (37 * spec.batch, 37 * 70)
