"""Two adapters at once: at the ends each alone, in between the weighted sum, and what does not add up is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.runs import store
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.studies import blending
from tests.runs.test_training import carry_out

pytestmark = [pytest.mark.weights, pytest.mark.filterwarnings("ignore")]
MOVIES = RunRequest("minilm-l6", "lora", "sentiment", {"r": 4}, steps=3, batch=4, eval_rows=0)
TWEETS = replace(MOVIES, task="tweets", values={"r": 2})
TEXT = "A wonderful film."


@pytest.fixture(scope="module")
def pair(assets_home: object) -> tuple[Run, Run]:
    return carry_out(MOVIES), carry_out(TWEETS)


@pytest.mark.slow
def test_the_ends_are_each_adapter_alone_and_the_middle_is_their_sum(pair: tuple[Run, Run]) -> None:
    import torch

    from peft_lab.methods import get_method
    from peft_lab.methods.lora import recording as lora
    from peft_lab.runs.course import fresh_base

    rows = blending.blend(pair[0].id, pair[1].id, TEXT)
    assert [row["weight"] for row in rows] == list(blending.WEIGHTS)
    bench = blending.Bench([blending.part_of_run(run.id) for run in pair])
    deltas = []
    for run, row in zip(pair, (rows[0], rows[-1]), strict=True):
        base = fresh_base(run.spec, run.spec.task_object()).model.float()
        alone = get_method("lora").load(base, run.adapter)
        answer = bench.examiners[0].answer(alone, [TEXT])[0]
        assert row["scores"] == pytest.approx(answer.scores, abs=1e-4)
        deltas.append({path: module.get_delta_weight("default") for path, module in lora.layers(alone)})
    bench.blend("cat", (0.75, 0.25))
    path = next(iter(deltas[0]))
    found = bench.layers()[path].get_delta_weight("mix")
    wanted = 0.75 * deltas[0][path] + 0.25 * deltas[1][path]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (MOVIES, replace(TWEETS, model="smollm2-135m", task="json"), "different base models"),
        (MOVIES, replace(TWEETS, method="ia3", values={}), "LoRA runs"),
        (MOVIES, replace(TWEETS, values={"use_dora": True}), "DoRA"),
        (replace(MOVIES, values={"init_lora_weights": "pissa"}), TWEETS, "PiSSA"),
        (replace(MOVIES, values={"bias": "all"}), TWEETS, "biases"),
        (MOVIES, TWEETS, ""),
    ],
)
def test_what_does_not_add_up_is_refused(first: RunSpec, second: RunSpec, reason: str) -> None:
    said = blending.problem(first, second)
    assert bool(said) == bool(reason) and reason in said


@pytest.mark.slow
def test_a_refusal_is_an_error_when_asked_all_the_same(pair: tuple[Run, Run]) -> None:
    other = store.create(replace(MOVIES, values={"use_dora": True}).complete())
    with pytest.raises(BadInput, match="DoRA"):
        blending.blend(pair[0].id, other.id, TEXT)
    with pytest.raises(BadInput, match="characters"):
        blending.ask(pair[0].id, pair[1].id, " ")
