"""What a sweep file asks for, and what is wrong with one in one sentence."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.studies.sweeps import plan

pytestmark = pytest.mark.weights
SMALL: dict[str, Any] = {
    "model": "minilm-l6",
    "task": "sentiment",
    "methods": ["lora"],
    "steps": 2,
    "batch": 4,
}


def settings(**changes: Any) -> list[tuple[Any, ...]]:
    specs = plan.sweep_of({**SMALL, **changes}).specs
    return [(s.method, s.values.get("r"), s.learning_rate, s.seed) for s in specs]


def test_a_grid_is_every_combination_and_a_knob_goes_to_those_who_have_it() -> None:
    found = settings(
        methods=["lora", "bitfit"], seeds=[0, 1], grid={"r": [4, 8], "learning_rate": [0.001, "3e-3"]}
    )
    rates = (0.001, 0.003)
    one_seed = [("lora", r, rate) for r in (4, 8) for rate in rates] + [
        ("bitfit", None, rate) for rate in rates
    ]
    assert found == [(*each, seed) for seed in (0, 1) for each in one_seed]


def test_random_draws_are_the_same_every_time_and_within_their_bounds() -> None:
    wish = {"runs": 12, "r": [4, 8], "learning_rate": {"min": 1e-4, "max": 1e-2, "log": True}}
    found = settings(random=wish)
    assert found == settings(random=wish)
    assert {r for _, r, _, _ in found} == {4, 8}
    rates = [rate for _, _, rate, _ in found]
    assert len(set(rates)) == 12 and all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert min(rates) < 1e-3 < max(rates)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"modle": 1}, "There is no setting of a sweep called 'modle'. Did you mean 'model'"),
        ({"task": None}, "has no task"),
        ({"methods": "lora"}, "'methods' needs a list of names"),
        ({"methods": ["lroa"]}, "Did you mean 'lora'"),
        ({"seeds": [0.5]}, "'seeds' needs a list of whole numbers"),
        ({"grid": {"rank": [4]}}, "There is no knob of these methods called 'rank'"),
        ({"grid": {"r": 4}}, "'r' needs a list of values"),
        ({"grid": {"r": ["many"]}}, "many"),
        ({"grid": {"runs": [4]}}, "'runs' belongs to random"),
        ({"grid": {"learning_rate": ["fast"]}}, "A learning rate must be a number"),
        ({"grid": {"r": [4]}, "random": {"runs": 2}}, "has both grid and random"),
        ({"random": {"r": [4]}}, "needs the number of 'runs'"),
        ({"random": {"runs": 2, "r": {"min": 8, "max": 4}}}, "min below max"),
        ({"steps": 0}, "Steps must be from 1"),
        ({"steps": "many"}, "Steps must be a whole number"),
        ({"stop": "median"}, "'stop' must be asha"),
        ({"stop": {"by": "asha", "gracee": 1}}, "There is no setting of stop called 'gracee'"),
        ({"stop": {"by": "asha", "metric": "accuracy"}}, "only by their training 'loss'"),
        ({"stop": {"by": "asha", "grace": 2}}, "'grace' must be a number of steps from 1 to 1"),
        ({"stop": {"by": "asha", "grace": 1, "factor": 1}}, "'factor' must be a whole number from 2"),
        (
            {"seeds": list(range(200)), "grid": {"learning_rate": [i / 1000 for i in range(1, 60)]}},
            "at most 10,000",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        settings(**changes)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "model: !!python/object/apply:os.getcwd []", "steps: !!bool maybe", "steps: !!timestamp abc",
        'steps: !!int ""', "steps: !!float x", "steps: !other 3", "steps: !!timestamp 2001-01-01", "steps: 2001-01-01",
        "batch: !!binary aGk=", "grid: {r: [!!set {4}]}", "stop: {by: !!set {asha}}", "grid: {r: &a [*a]}",
        "model: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"{name}: &{name} [{', '.join(['*' + before] * 10)}]" for before, name in pairwise("abcdefghi")),
    ],
)  # fmt: skip
def test_tags_and_aliases_make_nothing_but_what_json_holds(line: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(line)
    with pytest.raises(BadInput) as caught:
        plan.read_sweep(file)
    assert caught.value.field == "file" and str(file) in str(caught.value) and len(str(caught.value)) < 1000


def test_an_alias_says_what_it_stands_for(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "{model: minilm-l6, task: sentiment, methods: [lora], steps: 2, grid: {r: &a [4, 8], lora_alpha: *a}}"
    )
    assert len(plan.read_sweep(file).specs) == 4


def test_files_that_are_no_sweep(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        plan.read_sweep(file)
    for text, sentence in (("[1", "is neither YAML nor JSON"), ("just words", "contains no settings")):
        file.write_text(text)
        with pytest.raises(BadInput, match=sentence):
            plan.read_sweep(file)
    file.write_text("{model: minilm-l6, task: sentiment, methods: [lora], steps: 2}")
    assert len(plan.read_sweep(file).specs) == 1
