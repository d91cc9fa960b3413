"""Which run stands for which: one rule for experiments, comparisons, contests and what is shown beside a setting."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.runs.record import stands_for
from peft_lab.runs.spec import RunSpec


def complete(**values: Any) -> RunSpec:
    full = get_method("lora").complete(get_model("minilm-l6").shape, values)
    return RunSpec(
        "minilm-l6",
        "lora",
        "sentiment",
        full,
        steps=60,
        batch=32,
        learning_rate=1e-3,
        max_length=64,
        eval_rows=9,
    )


OTHER: dict[str, Any] = {
    "model": "smollm2-135m", "method": "ia3", "task": "tweets", "steps": 3, "batch": 4, "seed": 1,
    "learning_rate": 2e-3, "head_learning_rate": 0.1, "max_length": 9, "schedule": "cosine", "warmup": 0.0,
    "weight_decay": 0.1, "clip": 0.0, "eval_rows": 8, "own_data": "mine.csv",
    "own_source": "hf:owner/name@main:train", "start": "adapter.zip",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_another_setting_is_another_run(name: str) -> None:
    changed = replace(complete(), **{name: OTHER[name]})
    assert not stands_for(changed, complete()) and not stands_for(complete(), changed)


def test_every_setting_is_compared() -> None:
    assert {item.name for item in fields(RunSpec)} == {*OTHER, "values", "probes", "compared"}


def test_more_figures_serve_where_fewer_are_asked_for_and_not_the_other_way_round() -> None:
    for more in (replace(complete(), compared=True), replace(complete(), probes=("Good?", "Bad?"))):
        assert stands_for(more, complete()) and not stands_for(complete(), more)
    assert stands_for(replace(complete(), probes=("b", "a")), replace(complete(), probes=("a",)))


def test_knobs_at_their_defaults_need_not_be_said_and_idle_ones_count_for_nothing() -> None:
    assert stands_for(replace(complete(), values={}), complete())
    assert stands_for(replace(complete(), values={"r": 4}), complete(r=4))
    assert not stands_for(complete(r=4), complete())
    shape = get_model("minilm-l6").shape
    eight, double = ({"load_in_8bit": True, "bnb_4bit_use_double_quant": given} for given in (True, False))
    one, other = (
        replace(complete(), method="qlora", values=get_method("qlora").complete(shape, values))
        for values in (eight, double)
    )
    assert one.values != other.values and stands_for(one, other)
