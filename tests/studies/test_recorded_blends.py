"""The shipped adapters and their recorded blends."""

from __future__ import annotations

import pytest

from peft_lab.studies import blending
from peft_lab.studies.blending import HOW, SHIPPED, TASKS, Bench
from peft_lab.takeaway.ship.adapter import read


def test_the_record_is_of_three_adapters_and_names_the_best() -> None:
    about, cells = blending.recorded()
    assert len(cells) == len({(cell["how"], *cell["weights"]) for cell in cells})
    assert {cell["how"] for cell in cells} <= set(HOW)
    for name in TASKS:
        found = read(SHIPPED / name)
        assert found.type == "LORA" and {tensor.dtype for tensor in found.tensors.values()} == {"F16"}
        assert (SHIPPED / name / "adapter_model.safetensors").stat().st_size <= 1_000_000
    best = blending.best()
    assert [cell["how"] for cell in best] == list(dict.fromkeys(cell["how"] for cell in best))
    worst = [min(cell["shares"]) for cell in best]
    assert worst == sorted(worst, reverse=True)
    base = blending.nearest("ties", (0.0, 0.0, 0.0))["scores"]
    for number, name in enumerate(TASKS):
        alone = blending.nearest("knots", [float(name == other) for other in TASKS])
        assert alone["scores"][number] == about["alone"][number] > base[number]


def test_a_blend_between_recorded_ones_is_the_nearest() -> None:
    cell = blending.nearest("cat", (0.95, 0.95, 1.0))
    assert cell["weights"] == [1.0, 1.0, 1.0] and cell["how"] == "cat"


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
def test_shipped_adapters_load_and_score_as_recorded() -> None:
    cell = blending.nearest("cat", (0.5, 0.0, 0.5))
    made = Bench([blending.shipped_part(name) for name in TASKS])
    assert made.blend(cell["how"], cell["weights"]) == cell["rank"]
    # one of 12 answers may turn on another processor
    assert made.scores([0]) == pytest.approx(cell["scores"][:1], abs=1.1 / blending.SCORED)
