"""Blends on tiny layers are the formulas written out; the command blends shipped adapters, folders and zips."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from peft_lab.core.errors import BadInput
from peft_lab.scratch import blend as written_out
from peft_lab.studies import blending
from peft_lab.studies.blending import DENSITY, HOW, SHIPPED, Bench, knots, overlap
from tests.cli.conftest import run  # noqa: F401  a fixture

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


def test_rslora_is_not_scaled_twice() -> None:
    made = bench(use_rslora=True)
    made.blend("cat", WEIGHTS)
    expected = written_out.weighted_sum(deltas(made), torch.tensor(WEIGHTS))
    torch.testing.assert_close(layer_of(made).get_delta_weight("mix"), expected)


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


def test_knots_of_more_columns_than_the_map_has_rows() -> None:
    torch.manual_seed(0)
    pairs = [(torch.randn(4, 10), torch.randn(6, 4)) for _ in range(3)]
    a, b = knots(pairs, [1.0, 1.0, 1.0])
    assert a.shape == (6, 10) and b.shape == (6, 6)


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


def test_the_search_leaves_out_ways_that_the_ranks_forbid() -> None:
    bench = Scored(ranks=(1, 2))
    blending.search(bench, [1.0, 1.0])  # type: ignore[arg-type]
    assert {how for how, *_ in bench.asked} == set(HOW) - set(blending.APART)


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


def test_the_command_says_what_was_tried_and_how_sure_it_is(
    run: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Recorded(Scored):
        examiners: tuple[Any, ...] = ()

        def blend(self, how: str, weights: Any) -> int:
            return R

        def scores(self, numbers: Any) -> list[float]:
            return [0.75 for _ in numbers]

        def overlaps(self) -> list[Any]:
            return []

    monkeypatch.setattr(blending, "Bench", lambda parts: Recorded())
    found = run("blend", "orders", "fields", "--how", "best", "--json").document
    best = blending.best()[0, 2]
    assert (found["method"], found["rank"]) == (best[0]["how"], best[0]["rank"])
    assert [row["blended"] for row in found["scores"].values()] == [best[0]["scores"][at] for at in (0, 2)]
    assert {row["alone"] for row in found["scores"].values()} == {0.75} and len(found["tried"]) == len(best)
    for name, (low, high) in found["intervals"].items():
        assert 0 <= low < found["scores"][name]["blended"] < high <= 1
    said = run("blend", "orders", "fields", "--how", "best").stdout
    assert all(f"{blending.worth(cell)[0]:.0%}, recorded" in said for cell in best)


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
