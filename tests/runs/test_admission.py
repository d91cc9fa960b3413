"""A run that does not fit is refused before it starts, with the figure and what would fit; one that fits is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core import disk as storage
from peft_lab.core import inspector, units
from peft_lab.core.errors import BadInput, SimulationError
from peft_lab.engine.lab import LabBatch, simulate_lab
from peft_lab.engine.request import StepRequest
from peft_lab.methods import all_methods
from peft_lab.models import images as looks
from peft_lab.models.catalogue import get_model
from peft_lab.runs import admission, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.view import Status
from peft_lab.training import batches
from peft_lab.training.batches import size_of
from tests.models import homemade
from tests.runs.driving import QUICK
from tests.waits import SECONDS

RUN = RunRequest("minilm-l6", "lora", "sentiment", steps=2, batch=32, eval_rows=0)
PLENTY = 2**40
pytestmark = pytest.mark.filterwarnings("ignore")


def free(monkeypatch: pytest.MonkeyPatch, nbytes: int) -> None:
    monkeypatch.setattr(admission, "free_memory", lambda: ("cpu", nbytes))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("slug", list(all_methods()))
@pytest.mark.parametrize(("model", "rows", "length"), [("minilm-l6", 8, 40), ("smollm2-135m", 2, 96)])
def test_the_bound_is_above_the_simulation(model: str, rows: int, length: int, slug: str, dtype: str) -> None:
    shape, method = get_model(model).shape, all_methods()[slug]
    if any(problem.level == "error" for problem in method.problems(shape, {})):
        pytest.skip("does not run on this model")
    values = method.require(shape, {})
    kept = length // 2 if shape.kind != "encoder" else 0
    found = simulate_lab(
        StepRequest(model, slug, values, LabBatch(rows, length, kept=kept, predicted=rows * kept), dtype)
    )
    spec = RunSpec(
        model,
        slug,
        "sentiment",
        values,
        steps=60,
        batch=rows,
        learning_rate=1e-3,
        max_length=length,
        eval_rows=0,
    )
    assert found.peak_bytes <= admission.bound(spec)


@pytest.mark.weights
def test_a_run_that_obviously_fits_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, PLENTY)
    monkeypatch.setattr(inspector, "get_inspector", None)
    assert admission.refusal(RUN.complete()) is None


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.weights
def test_one_line_says_how_much_and_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RUN.complete()
    needed = inspector.get_inspector(inspector.Worker.MEMORY).ask(
        admission.needed_bytes, spec.to_dict(), "cpu"
    )
    free(monkeypatch, needed)
    assert admission.refusal(spec) is None
    free(monkeypatch, needed - 1)
    error = admission.refusal(spec)
    assert error is not None and error.field == "batch" and error.works["batch"] == 16
    said = str(error)
    assert "\n" not in said
    for part in ("does not fit", *units.unlike(needed, needed - 1), "a batch of 16", "tokens"):
        assert part in said
    free(monkeypatch, 1)
    none = admission.refusal(spec)
    assert "No smaller batch" in str(none) and none is not None and none.works == {}


@pytest.mark.weights
def test_what_cannot_be_simulated_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unable:
        def ask(self, *_: Any) -> int:
            raise SimulationError("it needs values")

    free(monkeypatch, 1)
    monkeypatch.setattr(inspector, "get_inspector", lambda _: Unable())
    assert admission.refusal(RUN.complete()) is None


@pytest.mark.slow
@pytest.mark.weights
def test_the_queue_refuses_at_submit_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(store.runs())
    free(monkeypatch, 1)
    with pytest.raises(BadInput, match="does not fit") as refused:
        get_queue().submit(RUN)
    assert refused.value.field == "batch"
    assert len(store.runs()) == before


def test_a_batch_of_images_is_as_large_as_those_that_are_made(tmp_path: Path) -> None:
    from peft_lab.training import batches
    from peft_lab.training.batches import size_of

    folder, images = homemade.folder("vit", tmp_path / "my-vit"), homemade.images(tmp_path / "images")
    asked = RunRequest(folder, "lora", "own", steps=2, batch=20, own_data=images).complete()
    task, reader = asked.task_object(), looks.eye_of((3, 16, 16), None)
    rows = batches.encode(task, task.load().train, reader, asked.max_length)  # type: ignore[arg-type]
    assert len(rows) < asked.batch
    order = batches.plan([0] * len(rows), asked.steps, asked.batch, asked.seed)
    made = [size_of(batches.collate([rows[at] for at in each], 0, "cpu")) for each in order]
    assert made == [admission.largest_batch(asked)] * asked.steps


# ----------------------------------------
# Room on the disk: what a run is said to need is never less than what it writes.


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("method", ["full", "qlora", "ia3"])
def test_a_real_run_writes_no_more_than_it_was_said_to_need(method: str) -> None:
    identity = get_queue().submit(replace(QUICK, method=method, steps=9, probes=("A film.",), eval_rows=200))
    assert get_queue().wait(identity, SECONDS) is Status.DONE
    run = store.get(identity)
    written = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    assert written <= admission.needed_disk_bytes(run.spec)


@pytest.mark.weights
def test_a_reserve_is_left_and_an_unknown_disk_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = QUICK.complete()
    needed = admission.needed_disk_bytes(spec)
    for free, fits in (
        (needed + admission.DISK_RESERVE, True),
        (needed + admission.DISK_RESERVE - 1, False),
        (None, True),
    ):
        monkeypatch.setattr(storage, "free", lambda _, free=free: free)
        assert (admission.disk_refusal(spec) is None) == fits


# ----------------------------------------
# The simulated counterpart of a measured step.


def batch(labels: list[Any], mask: list[list[int]]) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.zeros(len(mask), len(mask[0]), dtype=torch.long),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
    }


def test_the_size_of_a_batch() -> None:
    ignored = batches.IGNORED
    classified = size_of(batch([1, 0], [[1, 1, 1], [1, 1, 0]]))
    assert classified == {"rows": 2, "length": 3, "padded": True, "kept": 0, "predicted": 0, "apart": False}
    said = [[ignored, 5, ignored, 6, ignored], [ignored, ignored, 7, 8, ignored]]
    written = size_of(batch(said, [[1] * 5, [1] * 5]))
    assert written == {"rows": 2, "length": 5, "padded": False, "kept": 3, "predicted": 4, "apart": False}
    assert set(written) == {*admission.SIMULATED_BATCH, "apart"}, "which runs of older versions do not say"
