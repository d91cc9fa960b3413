"""Whole small runs, in this process: what is learned, kept and repeated."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from peft_lab.core import machine
from peft_lab.core.errors import RunError
from peft_lab.methods import get_method
from peft_lab.methods.counting.count import count
from peft_lab.runs import admission, child, course, record, respond, store, training
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.training import batches
from peft_lab.training import step as loop
from peft_lab.training.evaluation import Examiner
from peft_lab.training.step import rate_at

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


def test_on_a_gpu_its_allocators_peaks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: the allocator's own figures are stood in for, to see where they go."""
    calls: list[str] = []
    assert machine.CPU.peaks() == {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 11)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 13)
    machine.in_use().reset_peaks()
    assert calls == ["reset"]
    assert machine.in_use().peaks() == {"device_allocated_bytes": 11, "device_reserved_bytes": 13}


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


def test_step0_gradients_of_a_are_zero_and_of_b_are_not(finished: Run) -> None:
    found = finished.insight()
    gradients = found["step0_gradients"].values()
    assert len(gradients) == 12
    assert all(row["A"] == 0 and row["B"] > 0 for row in gradients)
    growth = [sum(row["norms"].values()) for row in found["growth"]]
    assert growth[0] == 0 and growth[-1] > growth[1] > 0
    assert found["growth"][-1]["step"] == 6


def test_a_stop_between_steps_saves_what_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.create(SMALL.complete())
    monkeypatch.setattr(Run, "asked_to_stop", lambda self: self.view().step == 3)
    ending, message = training.train(run)
    assert ending == "stopped" and "after 3 of 6 steps" in message
    assert (run.adapter / "adapter_model.safetensors").exists() and run.view().after is None


@pytest.mark.slow
def test_a_stop_in_the_evaluation_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.create(SMALL.complete())
    monkeypatch.setattr(Run, "asked_to_stop", lambda self: self.view().step == 6)
    ending, message = training.train(run)
    assert ending == "stopped" and "during the evaluation" in message


def test_a_run_that_blows_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter((1.0, 1.0, math.inf))
    true_loss = batches.loss_of
    monkeypatch.setattr(loop, "loss_of", lambda *given: true_loss(*given) * next(losses))
    with pytest.raises(RunError, match="step 3"):
        carry_out(SMALL)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_rises_and_falls(schedule: str) -> None:
    factors = [rate_at(step, 20, 0.25, schedule) for step in range(20)]
    peak = factors.index(max(factors))
    assert peak == 5 and factors[5] == 1.0
    assert factors[:6] == sorted(factors[:6]) and factors[5:] == sorted(factors[5:], reverse=True)
    assert 0 < factors[-1] < 0.1
    assert rate_at(0, 20, 0.0, schedule) == 1.0


def test_no_evaluation_when_none_is_wanted() -> None:
    seen = carry_out(replace(SMALL, steps=1, eval_rows=0, probes=())).view()
    assert seen.status == "done" and seen.before is None and seen.after is None


def test_respond_needs_an_adapter() -> None:
    run = store.create(SMALL.complete())
    with pytest.raises(RunError, match="no adapter"):
        respond.respond(run.id, ["a"])


def test_bfloat16_where_the_processor_has_it(finished: Run) -> None:
    assert finished.view().ready["dtype"] == str(machine.compute_dtype()).removeprefix("torch.")
