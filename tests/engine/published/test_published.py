"""Published figures: rows, counts, outcomes, and the held-out half."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.sharded_published import published_sharded
from peft_lab.core.errors import SimulationError
from peft_lab.engine import published
from peft_lab.engine.published import lines
from peft_lab.engine.timing.estimate import others
from peft_lab.models.meta import shapes_only
from tests.engine.published import flux2
from tools import simulate_published

pytestmark = pytest.mark.filterwarnings("ignore")

# -- The published rows, and what is kept of their simulation: the kept figures are what the code says.

PLAIN = "lora--llama-3.2-3B-rank32"
OSF = "osf--llama-3.2-3B-rank128"
QUICK = (OSF, "prompt_tuning--llama-3.2-3B-default", "ln_tuning--llama-3.2-3B-default")


def test_the_simulation_agrees_with_what_was_published() -> None:
    rows, outcomes = published.rows(), published.simulated()
    assert list(outcomes) == list(rows)
    found = published.agreement(published.error(row, outcomes[name]) for name, row in rows.items())
    assert not [name for name, outcome in outcomes.items() if outcome.reason]
    assert (found.rows, found.ran) == (63, 63)
    assert found.median <= 1
    assert found.largest <= 5


def test_the_row_that_todays_peft_runs_in_another_way_is_told_apart() -> None:
    """It was simulated with the layer of then, and says so; what PEFT does now is not set against it."""
    assert published.rows()[OSF].reserved == 38_545_653_760
    assert [name for name, outcome in published.simulated().items() if outcome.note] == [OSF]
    assert "0.20.0" in published.simulated()[OSF].note
    with pytest.raises(SimulationError, match=r"before 0\.21"):
        published.simulate(OSF)


@pytest.mark.parametrize(("benchmark", "count"), [(published.METAMATH, 63), (published.IMAGE, 31)])
def test_training_time_is_that_of_the_steps_alone(benchmark: str, count: int) -> None:
    """The published "train_time" contains the final test, which moved methods that answer slowly behind others."""
    raw = lines(published.BENCHMARKS[benchmark].file)
    assert len(raw) == len(published.rows(benchmark)) == count
    for row, given in zip(published.rows(benchmark).values(), raw, strict=True):
        assert row.seconds == pytest.approx(given["stepping_seconds"], abs=0.1)
        assert row.seconds + row.testing == pytest.approx(given["headline_seconds"], abs=0.1)
        assert row.evaluating == sum(given["eval_seconds_by_interval"])
        assert 0.45 < row.seconds / given["headline_seconds"] < 0.85
        whole = len(row.intervals) * published.BENCHMARKS[benchmark].interval
        assert whole <= row.steps < whole + published.BENCHMARKS[benchmark].interval
    lora, boft = (published.rows()[name] for name in (PLAIN, "boft--llama-3.2-3B-default"))
    assert boft.testing > boft.seconds and lora.testing < lora.seconds


@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(
            pytest.param(name, marks=[pytest.mark.slow, *([pytest.mark.rest] if at % 7 else [])])
            for at, name in enumerate(published.rows())
            if name not in QUICK
        ),
    ],
)
def test_kept_figures_are_what_the_code_says(name: str) -> None:
    """Within a thousandth: other versions of the libraries may keep a scalar more, and a segment is 2 MB or more."""
    kept, now = published.simulated()[name], simulate_published.outcome(name)
    if name in published.SUPERSEDED:
        assert now == published.PublishedOutcome(None, None, published.SUPERSEDED[name])
        return
    assert now.tensors == pytest.approx(kept.tensors, rel=1e-3)
    assert now.reserved == pytest.approx(kept.reserved, rel=1e-3)


# -- Every published count made again without weights: all 94 rows, none is left out.


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", published.rows())
def test_language_rows(name: str) -> None:
    row, report = published.rows()[name], published.count(name)
    assert (report.trainable, report.total) == (row.trainable, row.total)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", published.rows(published.IMAGE))
def test_picture_rows(name: str) -> None:
    """On the transformer's bare shapes. SHiRA draws its positions at random and reads matrices for it; their number
    is known without them."""
    from peft import PeftConfig, get_peft_model

    row, model = published.rows(published.IMAGE)[name], flux2.build()
    if row.config is not None:
        config: Any = PeftConfig.from_peft_type(**row.config)
        if config.peft_type == "SHIRA":
            config.mask_fn = None
        with shapes_only():
            get_peft_model(model, config)
    parameters = list(model.parameters())
    assert sum(each.numel() for each in parameters if each.requires_grad) == row.trainable
    assert sum(each.numel() for each in parameters) == row.total


# -- The runs held out of every fit: whole, in two halves by a fixed rule, and none that was used before.

FOLDER = Path(__file__).parents[3] / "bench" / "held_out"
RUNS: list[dict[str, Any]] = [
    json.loads(line) for line in (FOLDER / "published.jsonl").read_text("utf-8").splitlines()
]


def test_the_half_of_a_run_follows_from_its_name() -> None:
    """So nobody chooses what is apart."""
    for run in RUNS:
        first = hashlib.sha256(f"{run['address']}#{run['name']}".encode()).digest()[0]
        assert run["split"] == ("apart" if first % 2 else "open"), run["name"]
    apart = sum(run["split"] == "apart" for run in RUNS)
    assert 0.4 < apart / len(RUNS) < 0.6


def test_nothing_that_was_used_before_is_held_out() -> None:
    """By file and figure, since the same page may print others; LoRA with its embeddings trained is another run."""

    def of(row: dict[str, Any]) -> list[dict[str, Any]]:
        files = [re.sub(r"/blob/[^/]+/", "/", one["address"]) for one in (row, *RUNS)]
        return [run for run, file in zip(RUNS, files[1:], strict=True) if file == files[0]]

    names = {run["name"] for run in RUNS}
    assert len(names) == len(RUNS)
    assert not any(f"PEFT {name}, L40S" in names for name in published.rows())
    for row in published_sharded():
        held = {figure["low"] for run in of(row) for figure in run["figures"]}
        assert not held & set(row["published"]), row["name"]
    for row in others():
        for run in of(row):
            alike = all(run[key] == row[key] for key in ("method", "batch", "seq", "devices"))
            if alike and "modules_to_save" not in run["values"]:
                found = {figure["kind"]: figure["low"] for figure in run["figures"]}
                seconds = [found[kind] for kind in ("seconds a step",) if kind in found]
                if tokens := found.get("tokens a second"):
                    seconds.append(run["batch"] * run["seq"] / tokens)
                expected = pytest.approx(row["seconds"] / row["steps"], rel=1e-3)
                assert expected not in seconds, (row["name"], run["name"])
