"""The causal model: losses on completions only, answers from left-padded prompts, every method that takes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from peft_lab import tasks
from peft_lab.methods import all_methods
from peft_lab.models.loading import load_base
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.training.evaluation import Examiner
from tests.runs.test_training import carry_out

pytestmark = pytest.mark.weights
PROBE = "Two large pizzas for Tim at 6 pm, please.\nJSON:"
METHODS = [
    slug
    for slug, method in all_methods().items()
    if "causal-lm" in method.learning_rates and slug != "bitfit"
]


@pytest.mark.parametrize("slug", METHODS)
def test_every_method_trains_and_answers(slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(tasks.get_task("json"), max_new_tokens=3)  # a whole answer would take most of the time
    monkeypatch.setattr(RunSpec, "task_object", lambda self: task)
    spec = RunRequest("smollm2-135m", slug, "json", steps=3, batch=2, eval_rows=2, probes=(PROBE,))
    seen = carry_out(spec).view()
    assert seen.status == "done" and len(seen.losses) == 3
    assert seen.before and seen.after and seen.before.rows == seen.after.rows == 2
    assert seen.probes_before[0].answer != ""


def test_answers_in_a_batch_are_those_of_one_at_a_time() -> None:
    base = load_base("smollm2-135m", dtype=torch.float32)
    task = tasks.get_task("json")
    examiner = Examiner(replace(task, max_new_tokens=8), base.tokenizer, task.max_length, base.device)
    texts = [row.text for row in task.load().test[:2]] + ["Hi."]
    with torch.no_grad():
        together = examiner._generate(base.model, texts)
        assert together == [examiner._generate(base.model, [text])[0] for text in texts]
