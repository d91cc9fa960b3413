"""Two adapters at once: the weighted sum in between, refusals, and the intruders of a saved run's correction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.runs import store
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.studies import blending
from tests.methods import tiny
from tests.runs.test_training import carry_out

pytestmark = pytest.mark.filterwarnings("ignore")

MOVIES = RunRequest("minilm-l6", "lora", "sentiment", {"r": 4}, steps=3, batch=4, eval_rows=0)
TWEETS = replace(MOVIES, task="tweets", values={"r": 2})
TEXT = "A wonderful film."


@pytest.fixture(scope="module")
def pair(assets_home: object) -> tuple[Run, Run]:
    return carry_out(MOVIES), carry_out(TWEETS)


@pytest.mark.weights
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


@pytest.mark.weights
@pytest.mark.slow
def test_a_refusal_is_an_error_when_asked_all_the_same(pair: tuple[Run, Run]) -> None:
    other = store.create(replace(MOVIES, values={"use_dora": True}).complete())
    with pytest.raises(BadInput, match="DoRA"):
        blending.blend(pair[0].id, other.id, TEXT)
    with pytest.raises(BadInput, match="characters"):
        blending.ask(pair[0].id, pair[1].id, " ")


SETTINGS = {"r": 2, "target_modules": ("q_proj", "v_proj")}


def saved(
    folder: Path, scale: float, monkeypatch: pytest.MonkeyPatch, name: str = "llama", **values: Any
) -> None:
    """A run that seems to have ended: its adapter in ``folder``, with B drawn at this scale."""
    import torch

    chosen = SETTINGS | values
    model: Any = tiny.apply(get_method("lora"), name, chosen)
    torch.manual_seed(3)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if ".lora_B." in path:
                parameter.normal_(std=scale)
    get_method("lora").save(model, folder)
    spec = SimpleNamespace(method="lora", task_object=lambda: None)
    monkeypatch.setattr(store, "get", lambda identity: SimpleNamespace(folder=folder, spec=spec))
    monkeypatch.setattr(blending, "kept_adapter", lambda path: path)
    monkeypatch.setattr(
        "peft_lab.runs.course.fresh_base", lambda spec, task: SimpleNamespace(model=tiny.build(name))
    )


def test_a_correction_that_is_nothing_brings_no_intruder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 0.0, monkeypatch)
    rows = blending.compare_intruders("any")
    assert {row["module"].rpartition(".")[2] for row in rows} == {"q_proj", "v_proj"}
    assert all(row["found"] == () for row in rows)
    assert all(min(row["nearest"]) > 0.99 for row in rows)


def test_a_strong_random_correction_is_seen_in_every_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 30.0, monkeypatch)
    rows = blending.compare_intruders("any")
    assert all(row["nearest"][0] < 0.9 for row in rows), "what was added is the strongest direction, and new"
    assert any(1 in row["found"] for row in rows)
    assert all(row["tuned"][0] > 2 * row["pretrained"][0] for row in rows)


def test_maps_that_are_stored_the_other_way_round_are_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 0.0, monkeypatch, "gpt2", target_modules=("c_attn",))
    (first, *_) = blending.compare_intruders("any")
    assert first["shape"][0] == 3 * first["shape"][1], "queries, keys and values are the outputs"
    assert first["found"] == ()
