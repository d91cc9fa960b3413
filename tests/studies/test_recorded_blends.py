"""The shipped adapters and their recorded blends."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

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
    base = blending.nearest("ties", (0.0, 0.0, 0.0))["scores"]
    for number, name in enumerate(TASKS):
        alone = blending.nearest("knots", [float(name == other) for other in TASKS])
        assert alone["scores"][number] == about["alone"][number] > base[number]


def test_the_best_blends_of_a_group_are_of_just_these_adapters_one_of_each_way() -> None:
    groups = blending.best()
    assert set(groups) == {(0, 1), (0, 2), (1, 2), (0, 1, 2)}
    opening = [blending.worth(cells[0]) for cells in groups.values()]
    assert opening == sorted(opening, reverse=True)
    for members, best in groups.items():
        assert len({cell["how"] for cell in best}) == len(best)
        worst = [min(cell["shares"][member] for member in members) for cell in best]
        assert worst == sorted(worst, reverse=True)
        mine = [
            cell for cell in blending.recorded()[1]
            if [number for number, weight in enumerate(cell["weights"]) if weight] == [*members]
        ]  # fmt: skip
        assert {cell["how"] for cell in mine} == {cell["how"] for cell in best}
        assert worst[0] == max(min(cell["shares"][member] for member in members) for cell in mine)


def test_the_best_ones_were_scored_again_on_rows_that_did_not_choose_them() -> None:
    about = blending.recorded()[0]
    best = {members: each[0] for members, each in blending.best().items() if blending.worth(each[0])[0]}
    chosen, blended = [*best.values()], {*chain(*best)}
    alone = [blending.nearest("cat", [float(at == number) for at in range(len(TASKS))]) for number in blended]
    assert chosen
    for cell in [*chosen, *alone]:
        assert len(cell["again"]) == sum(map(bool, cell["weights"]))
        assert all(round(score * about["again"], 6) % 1 < 1e-3 for score in cell["again"])
    rows = [blending.shipped_part(name).task.load().test for name in TASKS]
    assert all(len(test) >= blending.SCORED + about["again"] for test in rows)


def test_recorded_blends_answer_for_shipped_adapters_in_any_order() -> None:
    parts = [SimpleNamespace(name=name, folder=SHIPPED / name) for name in ("fields", "orders")]
    cells: list[Any] = blending.known(parts)  # type: ignore[arg-type]
    for cell, recorded in zip(cells, blending.best()[0, 2], strict=True):
        for name in ("weights", "scores", "shares"):
            assert cell[name] == [recorded[name][2], recorded[name][0]]
    parts[0].folder = Path("elsewhere") / "fields"
    assert blending.known(parts) == []  # type: ignore[arg-type]


def test_recorded_overlaps_are_the_cosines_of_the_principal_angles() -> None:
    about = blending.recorded()[0]
    held = {name: load_file(SHIPPED / name / "adapter_model.safetensors") for name in TASKS}
    shapes: dict[tuple[str, str], set[float]] = {}
    for side, lines in about["overlap"].items():
        assert len(lines) == 6
        for line, shares in lines.items():
            pair, _, slot = line.partition(", ")
            for layer in (0, 14, 29):
                key = f"base_model.model.model.layers.{layer}.self_attn.{slot}_proj.lora_{side}.weight"
                spaces = [held[name][key].float() for name in pair.split(" and ")]
                bases = [
                    torch.linalg.svd(one.T if side == "A" else one, full_matrices=False).U for one in spaces
                ]
                angles = torch.linalg.svdvals(bases[0].T @ bases[1])
                assert shares[layer] == pytest.approx(float(angles.square().mean()), abs=2e-4)
                rank, wide = sorted(spaces[0].shape)
                shapes.setdefault((side, slot), set()).add(round(rank / wide, 4))
    assert shapes == {(side, slot): {about["chance"][side][slot]} for side in "AB" for slot in "qv"}


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
