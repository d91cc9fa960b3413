"""What is compared: one run for each method and seed, equal in all else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods
from peft_lab.studies import store as studies
from peft_lab.studies.compare.store import ComparisonPlan, ComparisonRequest, command_of, make_plan
from tests.studies.compare.conftest import WISH

pytestmark = pytest.mark.weights


def test_every_method_and_seed_is_a_run_and_seeds_come_in_rounds() -> None:
    plan = make_plan(WISH)
    assert [(cell.method, cell.seed) for cell in plan.cells] == [
        (slug, seed) for seed in (0, 1, 2) for slug in ("lora", "bitfit")
    ]
    assert "key/value cache" in plan.refused["prefix"]
    assert all(cell.spec.compared and cell.spec.seed == cell.seed for cell in plan.cells)


def test_runs_differ_in_method_seed_and_what_belongs_to_them_alone() -> None:
    plan = make_plan(replace(WISH, methods=()))
    own = ("method", "values", "learning_rate", "head_learning_rate", "seed")
    shared = {
        json.dumps({k: v for k, v in cell.spec.to_dict().items() if k not in own}) for cell in plan.cells
    }
    assert len(shared) == 1
    assert {cell.method for cell in plan.cells} | set(plan.refused) == set(all_methods())


def test_prompts_that_take_up_positions_shorten_the_rows_of_all() -> None:
    plan = make_plan(
        replace(WISH, methods=("lora", "prompt"), values={"prompt": {"num_virtual_tokens": 470}})
    )
    assert {cell.spec.max_length for cell in plan.cells} == {42}


def test_an_equal_wish_is_the_same_comparison_also_after_json() -> None:
    plan = make_plan(WISH)
    assert make_plan(replace(WISH, batch=4)).id == plan.id
    assert make_plan(replace(WISH, steps=3)).id != plan.id
    again = ComparisonPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.id == plan.id
    assert again.cells == plan.cells
    assert [cell.spec.to_dict() for cell in again.cells] == [cell.spec.to_dict() for cell in plan.cells]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ("lorra",)}, "'lora'"),
        ({"methods": ("prefix",)}, "None of these methods applies"),
        ({"seeds": ()}, "1 to 20 seeds"),
        ({"steps": 0}, "Steps"),
        ({"eval_rows": 0}, "rows to score"),
        ({"task": "json"}, "encoder"),
        ({"task": "own"}, "your own data"),
        ({"values": {"ia3": {}}}, "'ia3'"),
        ({"values": {"lora": {"r": 0}}}, "Rank"),
        ({"model": "llama-3.2-3b"}, "only the shape"),
    ],
)
def test_what_cannot_work_is_refused_in_words(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        make_plan(replace(WISH, **change))  # type: ignore[arg-type]


def test_the_command_asks_for_the_same_comparison() -> None:
    command = command_of(make_plan(replace(WISH, values={"lora": {"r": 4}})).request)
    assert "--methods lora,bitfit,prefix" in command
    assert command.endswith("--seeds 0,1,2 --eval-rows 100 --set r=4")


def test_defaults_are_three_seeds_of_every_method() -> None:
    plan = make_plan(ComparisonRequest("minilm-l6", "sentiment"))
    assert len(plan.cells) == 3 * (len(all_methods()) - len(plan.refused))


@pytest.mark.parametrize(
    ("model", "name"),
    [("minilm-l6", "minilm-l6"), ("/srv/models/My Model/", "my-model"), ("org/Name-1B", "name-1b")],
)
def test_a_folder_of_a_comparison_is_called_by_the_models_last_name(model: str, name: str) -> None:
    assert studies.identity(model, "json", []).startswith(f"{name}-json-")
