"""Blends are their formulas written out, searches and records; two adapters at once; the intruders of a correction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.runs import store
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.scratch import blend as written_out
from peft_lab.studies import blending
from peft_lab.studies.blending import DENSITY, HOW, SHIPPED, TASKS, Bench, overlap
from peft_lab.takeaway.ship.adapter import read
from tests.cli.conftest import run  # noqa: F401  a fixture
from tests.methods import tiny

pytestmark = pytest.mark.filterwarnings("ignore")
MOVIES = RunRequest("minilm-l6", "lora", "sentiment", {"r": 4}, steps=3, batch=4, eval_rows=0)
TWEETS = replace(MOVIES, task="tweets", values={"r": 2})


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


R, INTO, OUT = 2, 20, 12
WEIGHTS = (1.0, 0.5, -0.25)


def bench(ranks: tuple[int, ...] = (R, R, R), **more: Any) -> Bench:
    """Adapters of one map, each with another start."""
    torch.manual_seed(0)
    configs = [
        LoraConfig(r=rank, lora_alpha=3, target_modules=["0"], init_lora_weights=False, **more)
        for rank in ranks
    ]
    made = Bench.__new__(Bench)
    made.model = get_peft_model(nn.Sequential(nn.Linear(INTO, OUT, bias=False)), configs[0], "0")
    for name, config in enumerate(configs[1:], start=1):
        made.model.add_adapter(str(name), config)
    made.names = [str(name) for name in range(len(ranks))]
    made.parts = [SimpleNamespace(name=f"adapter {name}") for name in made.names]  # type: ignore[misc]
    made._heads = []
    return made


def layer_of(made: Bench) -> Any:
    (layer,) = made.layers().values()
    return layer


def deltas(made: Bench) -> torch.Tensor:
    return torch.stack([layer_of(made).get_delta_weight(name) for name in made.names]).detach()


def apart(made: Bench, merge: Any) -> torch.Tensor:
    """B and A of the adapters merged each for itself, with the roots of weights and scales."""
    layer, factors = layer_of(made), []
    for held, signed in ((layer.lora_B, False), (layer.lora_A, True)):
        scaled = torch.tensor(
            [weight * layer.scaling[name] for name, weight in zip(made.names, WEIGHTS, strict=True)]
        )
        roots = scaled.abs().sqrt() * (scaled.sign() if signed else 1)
        stacked = torch.stack([held[name].weight.detach() for name in made.names])
        factors.append((stacked, roots))
    b, a = (merge(stacked, roots, DENSITY) for stacked, roots in factors)
    return b @ a


def cut(delta: torch.Tensor) -> torch.Tensor:
    a, b = written_out.low_rank(delta, R)
    return b @ a


def in_shared_basis(found: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """KnOTS with the whole matrices, as in the authors' code."""
    U, S, Vt = torch.linalg.svd(torch.cat([*found], dim=1).double(), full_matrices=False)
    kept = S > 1e-5
    aligned = (S[kept, None] * Vt[kept]).float().chunk(len(found), dim=1)
    return U[:, kept].float() @ written_out.ties(torch.stack(aligned), weights, DENSITY)


def summed(found: torch.Tensor, roots: torch.Tensor, share: float) -> torch.Tensor:
    return written_out.weighted_sum(found, roots)


EXPECTED = {
    "cat": lambda made, found, weights: written_out.weighted_sum(found, weights),
    "linear": lambda made, found, weights: apart(made, summed),
    "svd": lambda made, found, weights: cut(written_out.weighted_sum(found, weights)),
    "ties": lambda made, found, weights: apart(made, written_out.ties),
    "ties_svd": lambda made, found, weights: cut(written_out.ties(found, weights, DENSITY)),
    "dare": lambda made, found, weights: apart(made, written_out.dare),
    "dare_svd": lambda made, found, weights: cut(written_out.dare(found, weights, DENSITY)),
    "knots": lambda made, found, weights: in_shared_basis(found, weights),
}


@pytest.mark.parametrize("how", HOW)
def test_each_blend_is_its_formula(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # DARE drops the same entries in both, whatever was drawn before
    monkeypatch.setattr(
        torch, "bernoulli", lambda shares: torch.arange(shares.numel()).view(shares.shape) % 3 > 0
    )
    made = bench()
    found = deltas(made)
    rank = made.blend(how, WEIGHTS)
    expected = EXPECTED[how](made, found, torch.tensor(WEIGHTS))
    torch.testing.assert_close(layer_of(made).get_delta_weight("mix"), expected, rtol=1e-4, atol=1e-5)
    assert rank == (3 * R if how in ("cat", "knots") else R)


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}], ids=["plain", "rslora"])
@pytest.mark.parametrize("how", HOW)
def test_one_adapter_with_weight_1_is_itself(how: str, more: dict[str, Any]) -> None:
    made = bench(**more)
    found = deltas(made)
    for number in range(3):
        made.blend(how, [float(number == other) for other in range(3)])
        torch.testing.assert_close(layer_of(made).get_delta_weight("mix"), found[number])


def test_what_cannot_be_blended_is_refused() -> None:
    with pytest.raises(BadInput, match="All weights are 0"):
        bench().blend("cat", (0.0, 0.0, 0.0))
    unequal = bench(ranks=(1, 2, 3))
    for how in HOW:
        if how in blending.APART:
            with pytest.raises(BadInput, match="equal rank"):
                unequal.blend(how, WEIGHTS)
        else:
            unequal.blend(how, WEIGHTS)


def test_a_subspace_overlaps_with_itself_by_1_and_with_a_random_one_by_its_share() -> None:
    torch.manual_seed(0)
    one, two = torch.randn(200, 8), torch.randn(200, 8)
    assert overlap(one, one @ torch.randn(8, 8)) == pytest.approx(1, abs=1e-4)
    assert overlap(torch.eye(8)[:, :3], torch.eye(8)[:, 3:]) == 0
    assert overlap(one, two) == pytest.approx(8 / 200, rel=0.5)
    rows = bench(ranks=(R, R)).overlaps()
    assert [row["pair"] for row in rows] == [["adapter 0", "adapter 1"]] and 0 < rows[0]["A"] < 1


class Scored:
    """Blends with made-up scores: the first adapter gains by weight, the second takes only half of it."""

    def __init__(self, ranks: tuple[int, ...] = (R, R)) -> None:
        self.names = self.parts = [str(number) for number in range(len(ranks))]
        configs = {
            name: SimpleNamespace(r=rank, rank_pattern={})
            for name, rank in zip(self.names, ranks, strict=True)
        }
        self.model, self.asked = SimpleNamespace(peft_config=configs), list[tuple[Any, ...]]()

    def cell(self, how: str, weights: Any, alone: Any) -> dict[str, Any]:
        self.asked.append((how, *weights))
        self.model.peft_config["mix"] = SimpleNamespace(r=2 * R, rank_pattern={})
        kept = {"svd": 0.9, "cat": 0.8}.get(how, 0.1)
        shares = [weights[0] * kept, kept if weights[1] == 0.5 else 0.0]
        return {"how": how, "weights": weights, "shares": shares}


def test_the_search_finds_the_weights_and_then_the_way() -> None:
    bench = Scored()
    tried = blending.search(bench, [1.0, 1.0])  # type: ignore[arg-type]
    assert (tried[0]["how"], [*tried[0]["weights"]]) == ("svd", [1.0, 0.5])
    assert len(set(bench.asked)) == len(bench.asked) == len(tried) == 4 + len(HOW) - 1
    assert {how for how, *weights in bench.asked if weights == [1.0, 0.5]} == set(HOW) - set(blending.MEANS)
    assert {how for how, *weights in bench.asked if weights == [1.0, 1.0]} == {"cat", *blending.MEANS}
    worst = [blending.worth(cell)[0] for cell in tried]
    assert worst == sorted(worst, reverse=True) and worst[0] == 0.9


# ----------------------------------------
# The command.
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["orders", "--how", "sum"], "knots"),
        (["orders", "style", "--weights", "1"], "2 adapters and 1 weights"),
        (["orders", "style", "--weights", "1,1", "--how", "best"], "--weights"),
        (["orders", "--how", "best"], "two or more"),
        (["orders", "--weights", "much"], "much"),
        (["no-run"], "no-run"),
        (["no-folder=json"], "no-folder"),
    ],
)
def test_bad_input_is_named_in_one_line(run: Any, arguments: list[str], named: str) -> None:  # noqa: F811
    assert named in run("blend", *arguments).refused()


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
def test_the_command_scores_a_run_a_folder_and_a_zip(
    run: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    import shutil

    monkeypatch.setattr(blending, "SCORED", 1)
    packed = shutil.make_archive(str(tmp_path / "style"), "zip", SHIPPED / "style")
    found = run(
        "blend", "orders", f"{packed}=style", "--how", "knots", "--weights", "1,0.5", "--json"
    ).document
    assert (found["method"], found["weights"], found["rank"]) == ("knots", [1.0, 0.5], 16)
    assert [set(scores) for scores in found["scores"].values()] == [{"alone", "blended"}] * 2
    assert (
        len(found["overlap"]) == 60 and json.dumps(found["overlap"][0]["pair"]) == '["orders", "style.zip"]'
    )


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


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
def test_shipped_adapters_load_and_score_as_recorded() -> None:
    cell = blending.nearest("cat", (0.5, 0.0, 0.5))
    made = Bench([blending.shipped_part(name) for name in TASKS])
    assert made.blend(cell["how"], cell["weights"]) == cell["rank"]
    # one of 12 answers may turn on another processor
    assert made.scores([0]) == pytest.approx(cell["scores"][:1], abs=1.1 / blending.SCORED)
