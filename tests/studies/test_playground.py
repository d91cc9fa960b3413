"""The recorded runs of the playground: what they say of themselves is computed again from what they hold."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from peft_lab.drawing.trajectory.sentence import ASKED, STEPS
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.studies.playground import (
    ALL,
    DEFAULT_RATE,
    FILE_BYTES,
    LEADING,
    SHIPPED,
    SOME,
    Setting,
    grid,
    shipped,
)

RUNS = shipped()
OF = {run.setting: run for run in RUNS.runs}


def test_every_run_is_one_of_the_grid_and_the_default_is_among_them() -> None:
    assert SHIPPED.stat().st_size <= FILE_BYTES
    assert len(OF) == len(RUNS.runs) and set(OF) <= set(grid())
    entry, method = get_model(RUNS.spec["model"]), get_method(RUNS.spec["method"])
    default = method.complete(entry.shape, {})
    usual = Setting(
        default["r"],
        default["lora_alpha"],
        method.learning_rate(entry.kind, default),
        default["target_modules"],
    )
    assert usual in OF and usual == Setting(8, 16, DEFAULT_RATE)
    # both targets and at least three ranks and rates, so that every control of the page has something to show
    assert {run.targets for run in OF} == {SOME, ALL}
    assert len({run.rank for run in OF}) >= 3 and len({run.rate for run in OF}) >= 3


def test_every_run_has_the_shape_that_the_page_draws() -> None:
    layers = get_model(RUNS.spec["model"]).shape.num_layers
    for setting, run in OF.items():
        assert len(run.loss) == STEPS and len(run.moved) == STEPS + 1, setting
        assert {len(state) for state in run.moved} == {layers}, setting
        assert len(run.spectrum) == len(RUNS.slots)
        for series in run.spectrum:
            assert {len(values) for values in series} == {min(run.rank, LEADING)}, setting
            assert all(list(values) == sorted(values, reverse=True) for values in series), setting
        # nothing has moved before the first step, every block by the last
        assert not any(run.moved[0]) and not any(any(series[0]) for series in run.spectrum), setting
        assert all(run.moved[-1]) and all(series[-1][0] > 0 for series in run.spectrum), setting
        assert len(run.answers) == len(ASKED) - 1


def test_counts_are_those_of_the_method() -> None:
    shape, method = get_model(RUNS.spec["model"]).shape, get_method(RUNS.spec["method"])
    assert RUNS.total == shape.total
    for setting, run in OF.items():
        values = method.complete(shape, setting.request.values)
        assert run.trained == method.formula(shape, values).trainable, setting


@pytest.mark.weights
def test_the_request_of_a_run_is_what_was_trained() -> None:
    spec = next(grid()).request.complete()
    recorded = {**RUNS.spec, "values": dict(RUNS.spec["values"])}
    same = replace(spec, values=spec.values).to_dict()
    for varied in ("r", "lora_alpha", "target_modules"):
        recorded["values"].pop(varied)
        same["values"].pop(varied)
    for varied in ("learning_rate",):
        recorded.pop(varied)
        same.pop(varied)
    assert json.loads(json.dumps(same)) == recorded
