"""What a comparison measures in a run besides the task."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from peft_lab.methods import get_method
from peft_lab.models import loading
from peft_lab.runs import measuring
from peft_lab.runs.course import seed_everything
from peft_lab.training.evaluation import Examiner
from peft_lab.training.tasks import Row, get_task

pytestmark = pytest.mark.weights


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
