"""Constants: found again where they were planted, within data sheets, and as good as the bench says."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib import resources

import numpy as np
import pytest

from bench import fitting, step_time, transfer
from bench.fitting import fit_constants
from peft_lab.engine import published, timing
from peft_lab.engine.devices import gpus
from peft_lab.engine.timing import estimate
from peft_lab.engine.timing.estimate import others
from peft_lab.engine.timing.kernels import SHEETS, OperationTable


def test_planted_constants_are_found() -> None:
    planted = replace(fitting.EXPECTED, matmul16=150e12, matmul32=25e12, ask=16e-6)
    rows = [replace(row, seconds=row.predicted(planted)) for row in list(step_time.measured().values())[::5]]
    found = fit_constants(rows, fitting.EXPECTED, fitting.DOUBT, fitting.MOST)
    for name in ("matmul16", "matmul32", "ask"):
        assert getattr(found, name) == pytest.approx(getattr(planted, name), rel=0.15), name
    errors = [abs(row.predicted(found) / row.seconds - 1) for row in rows]
    assert float(np.median(errors)) < 0.01


def test_constants_are_physical() -> None:
    """Positive, and below what the data sheet says."""
    found = asdict(estimate.constants())
    assert all(value > 0 for value in found.values())
    assert all(found[name] <= most for name, most in fitting.MOST.items())
    assert set(estimate.MEANINGS) == set(found) == set(fitting.DOUBT)


def test_held_out_types_meet_the_goal() -> None:
    """As the kept summary says; a type is held out here again, so that the summary is of these constants."""
    kept = json.loads((resources.files(timing) / estimate.FITTED_FILE).read_text("utf-8"))["held_out"]
    assert kept["rows"] == len(published.rows()) == 63
    assert kept["median_percent"] <= 5 and kept["p90_percent"] <= 12
    assert kept["largest_percent"] <= 30 and kept["rank_correlation"] >= 0.95
    speed = step_time.without("LORA")
    for name, row in published.rows().items():
        if step_time.kind_of(row) == "LORA":
            one = step_time.measured()[name]
            assert abs(one.predicted(speed) / one.seconds - 1) < 0.12, name


def test_the_lengths_are_those_of_the_published_facts() -> None:
    """Rows of 209.9 tokens in the mean, 93.8% below the cut, sorted in twenties, padded to the longest of four."""
    draw = np.random.default_rng(0).standard_normal(800_000)
    rows = np.exp(0.5 * draw[draw < 1.538])
    rows *= 209.9 / rows.mean()
    buckets = np.sort(rows[: len(rows) // 80 * 80].reshape(-1, 80), axis=1)
    padded = buckets.reshape(-1, 20, 4).max(-1).ravel()
    for power in range(4):
        said = sum(w * length**power for w, length in zip(fitting.WEIGHTS, fitting.LENGTHS, strict=True))
        assert said == pytest.approx((padded**power).mean(), rel=0.01)


def test_figures_of_others_lie_within_the_band() -> None:
    low, high = estimate.fitted_band("a100-80")
    found = list(transfer.predicted())
    assert len(found) >= 12 and len({row["gpu"] for row in found}) >= 4
    within = [low <= row["measured_seconds"] / row["predicted_seconds"] <= high for row in found]
    assert sum(within) >= 0.85 * len(within)
    assert all(row["address"].startswith("https://") and row["gpu"] in SHEETS for row in others())


def test_a_row_is_traced_as_it_is_kept() -> None:
    name = "lora--llama-3.2-3B-rank32"
    now = [OperationTable(work) for work in fitting.traced_protocol(name)]
    for table, kept in zip(now, step_time.measured()[name].tables, strict=True):
        assert table.nbytes.sum() == kept.nbytes.sum() and table.flops.sum() == kept.flops.sum()


@pytest.mark.parametrize("name", SHEETS)
def test_products_of_16_bits_are_those_that_are_summed_in_32(name: str) -> None:
    """GeForce cards do half as many of them as of those summed in 16 bits: 512 operations a unit and clock."""
    sheet = SHEETS[name]
    geforce = name.startswith("rtx-") and name != "rtx-6000-ada"
    each = sheet.matmul16 / (sheet.units * sheet.clock)
    assert each == pytest.approx(512, rel=0.01) if geforce else each > 1_000


@pytest.mark.parametrize("name", SHEETS)
def test_products_of_32_bits_are_those_of_64_or_128_cores_a_unit(name: str) -> None:
    """Two operations a core and clock: what is copied wrongly into a sheet stands out."""
    sheet = SHEETS[name]
    cores = sheet.matmul32 / (2 * sheet.units * sheet.clock)
    assert min(abs(cores / each - 1) for each in (64, 128)) < 0.08
    assert sheet.power > 0 and sheet.best16 <= sheet.matmul16 and sheet.source


def test_every_generation_since_volta_has_cards() -> None:
    generations = {gpu.capability for gpu in gpus().values()}
    assert generations >= {(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)}
