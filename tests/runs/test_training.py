"""Whole small runs, in this process: what is learned, kept and repeated."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.methods import get_method
from peft_lab.methods.counting.count import count
from peft_lab.models import loading
from peft_lab.runs import admission, child, course, kept, measuring, record, respond, store, training
from peft_lab.runs.course import seed_everything
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.training.evaluation import Examiner
from peft_lab.training.tasks import Row, get_task

pytestmark = pytest.mark.weights
SENTENCES = ("A wonderful film.", "Dull and far too long.")
SMALL = RunRequest("minilm-l6", "lora", "sentiment", steps=6, batch=8, eval_rows=40, probes=SENTENCES)


def carry_out(spec: RunRequest) -> Run:
    run = store.create(spec.complete())
    run.log.emit("queued")
    run.log.emit("starting")
    child.end_run(run, *training.train(run))
    return run


@pytest.fixture(scope="module")
def finished(assets_home: object) -> Run:
    return carry_out(SMALL)


def test_a_run_says_everything_that_a_page_shows(finished: Run) -> None:
    seen = finished.view()
    assert (
        seen.status == "done" and len(seen.losses) == 6 and all(math.isfinite(loss) for loss in seen.losses)
    )
    assert seen.before and seen.after and seen.before.rows == seen.after.rows == 40
    assert (
        [answer.text for answer in seen.probes_before]
        == [answer.text for answer in seen.probes_after]
        == list(SENTENCES)
    )
    assert all(math.isclose(sum(answer.scores.values()), 1, abs_tol=1e-3) for answer in seen.probes_after)
    assert (
        seen.memory["process_peak_bytes"] > seen.memory["peak_bytes"] > 40e6
    )  # the weights in bfloat16 alone are 45 MB
    assert sum(seen.memory["parts"].values()) == seen.memory["peak_bytes"]
    assert seen.learning_rates[0] < max(seen.learning_rates) and seen.learning_rates[-1] < max(
        seen.learning_rates
    )


def test_the_step_told_before_a_run_is_the_one_that_it_measures(finished: Run) -> None:
    told, batch = admission.step_ahead(finished.spec.to_dict())
    measured = finished.view().memory
    assert batch == {name: measured[name] for name in batch}
    assert told.peak_bytes == pytest.approx(measured["peak_bytes"], rel=0.05)


def test_trainable_is_what_counting_says(finished: Run) -> None:
    report = count("minilm-l6", "lora", {}, num_labels=2)
    seen = finished.view()
    assert (seen.ready["trainable"], seen.ready["head"], seen.ready["total"]) == (
        report.trainable,
        report.head,
        report.total - report.trainable,
    )


def test_record_is_the_command_lines_contract(finished: Run) -> None:
    kept = finished.record()
    files = kept.pop("files")
    assert kept == json.loads(json.dumps(record.result(finished)))
    assert {"adapter/README.md", "adapter/adapter_model.safetensors"} <= set(files)
    assert {"run_id", "status", "steps", "seconds", "steps_per_second", "tokens_per_second", "loss", "metric", "memory",
            "trainable", "adapter_dir"} <= set(kept)  # fmt: skip
    assert (
        kept["metric"]["name"] == "accuracy"
        and 0 <= kept["metric"]["before"] <= 1
        and 0 <= kept["metric"]["after"] <= 1
    )
    assert kept["memory"]["source"] == "measured" and isinstance(kept["memory"]["peak_bytes"], int)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curve_and_another_does_not(finished: Run) -> None:
    again = carry_out(SMALL)
    assert again.view().losses == finished.view().losses
    assert again.view().probes_after == finished.view().probes_after
    assert carry_out(replace(SMALL, seed=1, eval_rows=0, probes=())).view().losses != finished.view().losses


def test_the_saved_adapter_answers_as_the_trained_model_did(finished: Run) -> None:
    rows = respond.respond(finished.id, list(SENTENCES))
    seen = finished.view()
    for row, before, after in zip(rows, seen.probes_before, seen.probes_after, strict=True):
        assert row["base"]["scores"] == pytest.approx(before.scores, abs=1e-6)
        assert row["tuned"]["scores"] == pytest.approx(after.scores, abs=1e-6)


def test_the_saved_adapter_is_in_float32_and_reaches_the_same_score(finished: Run) -> None:
    from safetensors.torch import load_file

    tensors = load_file(str(finished.adapter / "adapter_model.safetensors"))
    assert {tensor.dtype for name, tensor in tensors.items() if "lora" in name} == {torch.float32}
    spec = finished.spec
    task = spec.task_object()
    base = course.fresh_base(spec, task)
    tuned = get_method("lora").load(base.model, finished.adapter)
    examiner = Examiner(task, base.tokenizer, 64, base.device)
    after = finished.view().after
    assert after is not None
    assert examiner.evaluate(tuned, task.load().test[:40]).loss == pytest.approx(after.loss, rel=0.01)


# ----------------------------------------
# What a comparison measures in a run besides the task.


class Beats:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def examiner(base: loading.Base, task: str) -> Examiner:
    return Examiner(get_task(task), base.tokenizer, 64, base.device)


def test_a_disturbed_request_does_not_move_the_added_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is given: base 10 ms, tuned 12 ms, each request slower than the last, two of them disturbed."""
    clock: list[str] = []
    names = {0: "base", 1: "tuned"}
    base, tuned = torch.nn.Identity(), torch.nn.Identity()
    base.number, tuned.number = 0, 1  # type: ignore[assignment]

    def timed(_: object, model: torch.nn.Identity, text: str) -> float:
        clock.append(names[int(model.number)])  # type: ignore[arg-type]
        drift = 1e-4 * len(clock) + (0.5 if len(clock) in (1, 8) else 0.0)
        return (0.010, 0.012)[int(model.number)] + drift  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "_timed", timed)
    judge = Examiner(get_task("sentiment"), None, 64, "cpu")  # type: ignore[arg-type]
    beats = Beats()
    found = measuring.inference_time(judge, base, tuned, [Row("a", "positive"), Row("b", "negative")], beats)
    assert found["rounds"] == measuring.ROUNDS["classification"] and beats.count == found["rounds"] + 1
    assert found["unit"] == "row" and found["added_seconds"] == pytest.approx(0.002, abs=2e-4)
    firsts = clock[::2]
    assert all(
        before != after for before, after in itertools.pairwise(firsts)
    )  # neither is always the warmer one


@pytest.mark.slow
def test_unrelated_text_costs_what_the_model_says_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "UNRELATED_ROWS", 6)
    base = loading.load_base("smollm2-135m", dtype=torch.float32)
    judge = examiner(base, "json")
    found = measuring.unrelated_loss(judge, base.model, Beats())
    total, tokens = 0.0, 0
    for row in get_task(measuring.UNRELATED_TASK).load().test[:6]:
        ids = base.tokenizer(row.text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = ids[:, : measuring.UNRELATED_LENGTH]
        with torch.no_grad():
            loss = float(base.model(input_ids=ids, labels=ids).loss)
        total, tokens = total + loss * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    assert found["tokens"] == tokens
    assert found["loss"] == pytest.approx(total / tokens, rel=1e-4)
    # virtual tokens stand in front and move no label
    method = get_method("prompt")
    shape = base.entry.shape
    seed_everything(0)
    tuned = method.apply(base.model, shape, method.complete(shape, {}), "CAUSAL_LM")
    prompted = measuring.unrelated_loss(judge, tuned, Beats())
    assert prompted["tokens"] == tokens and math.isfinite(prompted["loss"])
    assert prompted["loss"] == pytest.approx(found["loss"], rel=0.3)


# ----------------------------------------
# A base that was scored before is not scored again, and its kept score is the fresh one to the digit.


TWELVE = RunRequest(
    "minilm-l6", "bitfit", "sentiment", steps=2, batch=4, eval_rows=12, probes=("A dull film.",)
)


@pytest.fixture
def home(assets_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab folder without any score."""
    for part in ("models", "data"):
        (tmp_path / part).symlink_to(assets_home / part, target_is_directory=True)
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path))
    return tmp_path


def bases(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the models that are scored."""
    scored: list[int] = []
    plain = Examiner.evaluate

    def counted(self: Examiner, *args: Any, **options: Any) -> Any:
        scored.append(1)
        return plain(self, *args, **options)

    monkeypatch.setattr(Examiner, "evaluate", counted)
    return scored


def told(run: Run) -> dict[str, Any]:
    seen = run.view()
    assert seen.before is not None and seen.status == "done"
    return asdict(seen.before)


@pytest.mark.slow
def test_the_second_run_knows_the_base_before_its_first_step(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = bases(monkeypatch)
    first = carry_out(TWELVE)
    assert len(scored) == 2
    second = carry_out(replace(TWELVE, method="lora"))
    assert len(scored) == 3  # its tuned model alone
    assert told(first) == told(second)
    assert first.view().probes_before == second.view().probes_before != ()
    kinds = [event["type"] for event in second.events() if event.get("which") != "tuned"]
    assert max(kinds.index("evaluated"), kinds.index("probe")) < kinds.index("ready") < kinds.index("step")
    assert next(e for e in second.events() if e["type"] == "evaluated")["scored_by"] == first.id


@pytest.mark.slow
def test_a_kept_score_is_the_fresh_one_to_the_digit(home: Path) -> None:
    kept = told(carry_out(TWELVE))
    for file in (home / "scores").iterdir():
        file.unlink()
    fresh = told(carry_out(TWELVE))
    for name in ("metrics", "loss", "rows"):
        assert kept[name] == fresh[name]


def test_whatever_decides_a_score_is_in_its_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(spec: RunRequest) -> dict[str, Any]:
        ready = course.prepare(spec.complete())
        return course.base_key_of(ready, kept.input_hashes(ready.spec, ready.task, ready.base.entry))

    plain = key(TWELVE)
    assert plain == key(replace(TWELVE, steps=3, batch=2, learning_rate=1e-3, method="ia3", probes=()))
    for other in ({"seed": 1}, {"eval_rows": 11}, {"max_length": 40}, {"task": "tweets"}):
        assert key(replace(TWELVE, **other)) != plain, other
    assert key(replace(TWELVE, method="qlora")) != plain
    monkeypatch.setattr(course, "versions", lambda: {"torch": "0"})
    assert key(TWELVE) != plain
