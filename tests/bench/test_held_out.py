"""The comparison with published runs: each is asked or refused with a reason, and what is kept is what comes out."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from bench.held_out import compare
from bench.held_out.requests import CONFIGS, MODELS, OPTIONS, SPEED, Request, config_of, request_of, runs

RUNS = {run["name"]: run for run in runs()}
#: Quick to simulate: 24 layers of 2,048.
SAMPLED = "LitGPT lora, phi-1_5, None, 1 rows, 1 GPU"


def test_every_run_is_asked_or_refused_with_a_reason() -> None:
    asked = 0
    for name, run in RUNS.items():
        request = request_of(run)
        assert request, name
        if isinstance(request, Request):
            asked += 1
            assert {*request.options} <= {*OPTIONS, "gpu", "protocol"}, name
            assert {*request.refused} <= {*SPEED}, name
            assert request.options["batch"] == run["batch"], name
            assert request.options.get("seq", run["seq"]) == (run["seq"] or 1), name
            assert request.options.get("devices", 1) == run["devices"], name
    assert asked >= 60


def test_every_config_has_a_source_and_is_asked_for() -> None:
    for file in CONFIGS.glob("*.json"):
        assert file.stem in MODELS.values()
        assert json.loads(file.read_text("utf-8"))["source"]
    assert all(config_of(name)["model_type"] for name in MODELS.values())


def test_every_figure_of_both_halves_is_kept_or_left_out_with_a_reason() -> None:
    kept = compare.kept()
    assert Counter(one.run for one in kept) == {name: len(run["figures"]) for name, run in RUNS.items()}
    for one in kept:
        assert one.half == RUNS[one.run]["split"] and bool(one.reason) != bool(one.published), one


def test_the_stored_tables_are_those_of_what_is_kept() -> None:
    for name, table in compare.tables(compare.kept()).items():
        stored = json.loads((compare.RESULTS / f"{name}.json").read_text("utf-8"))
        assert stored["rows"] == json.loads(json.dumps(table["rows"])), name


@pytest.mark.slow
def test_a_sampled_run_comes_out_as_it_is_kept() -> None:
    request = request_of(RUNS[SAMPLED])
    assert isinstance(request, Request)
    again = {one.kind: one for one in compare.compare(RUNS[SAMPLED], request, compare.ask(request))}
    kept = {one.kind: one for one in compare.kept() if one.run == SAMPLED}
    assert again.keys() == kept.keys()
    assert again["allocated"].ratio == pytest.approx(kept["allocated"].ratio, rel=0.01)
