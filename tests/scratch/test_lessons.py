"""The files from scratch beside the libraries they explain: whole, short, in plain torch, and right to the bit."""

from __future__ import annotations

import ast
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import merge_utils
from torch import nn

from peft_lab import scratch
from peft_lab.models import loading
from peft_lab.scratch import blend, qlora, quantise, sharded
from peft_lab.scratch.preference import advantages, dpo_loss, grpo_loss, log_probabilities
from peft_lab.scratch.sharded import Layer, Ranks, loss_of, shard, step

FOLDER = Path(scratch.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
METHODS = {"lora", "qlora", "prefix", "prompt", "ptuning", "adapters", "ia3", "bitfit"}
#: What is imported besides torch and the standard library: models to try it on, and the cache that a call takes.
ALLOWED = {
    "AutoModelForCausalLM",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "DynamicCache",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_short_and_imports_torch_and_the_standard_library(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 120
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            assert all(
                name.name.partition(".")[0] in {"torch", *sys.stdlib_module_names} for name in node.names
            )
        elif isinstance(node, ast.ImportFrom) and node.module == "transformers":
            assert {name.name for name in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom):
            assert (
                str(node.module).partition(".")[0] in {"torch", *sys.stdlib_module_names} and not node.level
            )


@pytest.mark.parametrize("stem", sorted(METHODS))
def test_a_method_wraps_trains_saves_and_loads(stem: str) -> None:
    tree = ast.parse((FOLDER / f"{stem}.py").read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"wrap", "train", "save", "load"} <= names
    assert ("merge" in names) == (stem in {"lora", "ia3"})


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize(
    "stem, model", [pytest.param("ia3", "smollm2-135m", marks=pytest.mark.rest), ("bitfit", "minilm-l6")]
)
def test_a_file_runs_on_a_shipped_model(stem: str, model: str, tmp_path: Path) -> None:
    root = str(FOLDER.parents[1])
    done = subprocess.run(
        [sys.executable, "-m", f"peft_lab.scratch.{stem}", loading.weights_of(model)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    losses = ast.literal_eval(done.stdout.splitlines()[-1])
    assert losses[-1] < losses[0] and (tmp_path / f"{stem}.pt").is_file()


# -- Blends from scratch are those of PEFT, to the bit --


def tasks() -> torch.Tensor:
    deltas = torch.randn(3, 12, 20, generator=torch.Generator().manual_seed(0))
    deltas[:, :2] = 0  # entries that no task has changed
    deltas[:, 2] = torch.tensor([1.5, -1.5, 0.0])[:, None]  # and such that cancel out
    return deltas


WEIGHTS = torch.tensor([1.0, 0.7, -0.4])


@pytest.mark.parametrize("share", [0.2, 0.55])
@pytest.mark.parametrize(
    "mine, theirs",
    [
        (blend.ties, merge_utils.ties),
        (blend.dare, merge_utils.dare_linear),
        (blend.dare_ties, merge_utils.dare_ties),
    ],
)
def test_blends_are_those_of_peft(mine: object, theirs: object, share: float) -> None:
    torch.manual_seed(1)
    expected = theirs(list(tasks()), WEIGHTS, share)  # type: ignore[operator]
    torch.manual_seed(1)
    assert torch.equal(mine(tasks(), WEIGHTS, share), expected)  # type: ignore[operator]
    assert torch.equal(
        blend.weighted_sum(tasks(), WEIGHTS), merge_utils.task_arithmetic(list(tasks()), WEIGHTS)
    )


@pytest.mark.parametrize("how", ["svd", "ties_svd"])
def test_a_blend_brought_back_to_a_rank_is_pefts_weighted_adapter(how: Any) -> None:
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"], init_lora_weights=False)
    model = get_peft_model(nn.Sequential(nn.Linear(20, 12)), config)
    model.add_adapter("second", config)
    inner: Any = model.base_model.model
    layer = inner[0]
    deltas = torch.stack([layer.get_delta_weight(name) for name in ("default", "second")]).detach()
    weights = torch.tensor([1.0, 0.5])
    model.add_weighted_adapter(
        ["default", "second"], [1.0, 0.5], "both", how, svd_rank=3, density=0.5, svd_full_matrices=False
    )
    whole = blend.weighted_sum(deltas, weights) if how == "svd" else blend.ties(deltas, weights, 0.5)
    A, B = blend.low_rank(whole, 3)
    torch.testing.assert_close(layer.get_delta_weight("both"), B @ A * layer.scaling["both"])
    lost = torch.linalg.svdvals(whole)[3:].square().sum().sqrt()
    torch.testing.assert_close((whole - B @ A).norm(), lost)


# -- DPO's and GRPO's losses from scratch, beside TRL's --
#
# The numbers are TRL 1.16.0's, which is not installed here: ``DPOTrainer._compute_loss`` and
# ``GRPOTrainer._compute_loss`` were called on these log probabilities and masks, and ``nanstd`` on the rewards.

IDS = torch.tensor([[1, 4, 2, 6, 3, 0], [1, 4, 5, 5, 2, 1], [1, 4, 6, 0, 0, 0], [1, 4, 3, 2, 6, 0]])
MASK = torch.tensor([[0, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 1, 0, 0, 0], [0, 1, 1, 1, 0]])
REWARDS = torch.tensor([[1.0, 0.0, 0.5, 0.25]])
TRL_DPO, TRL_GRPO = 0.730188250541687, -0.017651759088039398
TRL_ADVANTAGES = [1.3171565532684326, -1.024455189704895, 0.14635072648525238, -0.43905219435691833]


def logits(shift: float) -> torch.Tensor:
    number = torch.arange(4 * 6 * 7, dtype=torch.float32).view(4, 6, 7)
    return 2 * torch.sin(number * number * 0.37 + shift)


def of_policy(shift: float) -> torch.Tensor:
    return log_probabilities(logits(shift), IDS)


def test_losses_are_trls() -> None:
    """The ratios go from 0.78 to 1.25, so that some are clipped at 0.2."""
    pi, old, ref = of_policy(0.0), of_policy(0.1), of_policy(0.2)
    assert float(dpo_loss(pi, ref, MASK, beta=0.3)) == pytest.approx(TRL_DPO, abs=1e-6)
    A = advantages(REWARDS)
    assert A[0].tolist() == pytest.approx(TRL_ADVANTAGES, abs=1e-6)
    assert float(grpo_loss(pi, old, ref, A[0], MASK, eps=0.2, beta=0.04)) == pytest.approx(TRL_GRPO, abs=1e-6)


def test_what_the_file_says_of_the_start() -> None:
    pi = of_policy(0.0)
    assert float(dpo_loss(pi, pi, MASK, beta=0.3)) == pytest.approx(math.log(2))
    A = advantages(torch.tensor([[0.5, 0.5, 0.5, 0.5]]))
    assert not A.any()
    assert float(grpo_loss(pi, pi, pi, advantages(REWARDS)[0], MASK, 0.2, 0.04)) == pytest.approx(0, abs=1e-6)


def test_a_clipped_answer_has_no_gradient_and_padding_never_has_one() -> None:
    old = of_policy(0.0)
    pi = (old + 0.5).requires_grad_()  # every ratio is 1.65
    loss = grpo_loss(pi, old, old, torch.tensor([1.0, -1.0, 1.0, -1.0]), MASK, eps=0.2, beta=0.0)
    (gradient,) = torch.autograd.grad(loss, pi)
    assert not gradient[[0, 2]].any() and gradient[[1, 3]][MASK[[1, 3]] == 1].all()
    assert not gradient[MASK == 0].any()


def test_log_probabilities_are_those_of_the_models_loss() -> None:
    expected = torch.nn.functional.cross_entropy(logits(0.0)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    torch.testing.assert_close(-of_policy(0.0).mean(), expected)


# -- NF4 with double quantisation from scratch, to the bit as bitsandbytes has it --

SHAPES = [(96, 64), (576, 576), (192, 1536), (37, 10)]


def weights(shape: tuple[int, int]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.03


def test_the_code_books_are_those_of_bitsandbytes() -> None:
    assert torch.equal(quantise.nf4_code(), bnb.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(quantise.dynamic_code(), bnb.create_dynamic_map())
    assert torch.equal(qlora.CODE, quantise.nf4_code())


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_and_scales_are_those_of_bitsandbytes(shape: tuple[int, int]) -> None:
    W = weights(shape)
    mine = quantise.quantise(W)
    packed, state = bnb.quantize_4bit(W, compress_statistics=True, quant_type="nf4")
    assert torch.equal(mine.packed, packed.flatten())
    assert torch.equal(mine.absmax8, state.state2.absmax) and torch.equal(mine.mean, state.offset)
    # bitsandbytes' compiled CPU kernel takes the other neighbour for some values near the middle between two. For
    # float64 it has none, and compares all distances.
    absmax = bnb.quantize_4bit(W, quant_type="nf4")[1].absmax
    plain = torch.ops.bitsandbytes.quantize_blockwise.default(
        (absmax - absmax.mean()).double(), bnb.create_dynamic_map(), 256
    )[0]
    assert torch.equal(mine.q8, plain.flatten())
    other = (mine.q8.int() - state.absmax.flatten().int()).abs()
    assert other.max() <= 1 and (other > 0).float().mean() < 0.01
    theirs = mine._replace(q8=state.absmax.flatten())
    assert torch.equal(quantise.dequantise(theirs), bnb.dequantize_4bit(packed, state))


def test_without_double_quantisation_qlora_has_the_same_bytes() -> None:
    W = weights((192, 128))
    packed, absmax = qlora.quantise(W)
    theirs, state = bnb.quantize_4bit(W, quant_type="nf4")
    assert torch.equal(packed, theirs.flatten()) and torch.equal(absmax.flatten(), state.absmax)
    assert torch.equal(qlora.dequantise(packed, absmax).view(W.shape), bnb.dequantize_4bit(theirs, state))


def test_a_block_of_zeros_stays_zero_and_bits_are_as_the_file_says() -> None:
    W = torch.cat([torch.zeros(1, 64), weights((64 * 256 - 1, 64))])
    x = quantise.quantise(W)
    assert not quantise.dequantise(x)[0].any()
    bits = 8 * sum(tensor.nbytes for tensor in (x.packed, x.q8, x.absmax8)) / W.numel()
    assert bits == pytest.approx(4 + 8 / 64 + 32 / (64 * 256))


# -- A sharded step from scratch: its gradients and parameters are those of one process --

D, R, ROWS = 16, 4, 8
SIDES = {"W0": (D, D), "A": (R, D), "B": (D, R)}


def layers() -> list[Layer]:
    random = torch.Generator().manual_seed(0)
    return [
        {name: torch.randn(shape, generator=random) / 4 for name, shape in SIDES.items()} for _ in range(2)
    ]


@pytest.mark.parametrize("N", [1, 2, 4])
def test_all_parts_together_are_what_one_process_has(N: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(ROWS, D, generator=random), torch.randn(ROWS, D, generator=random)
    whole = [shard(layer, 0, 1) for layer in layers()]
    trained = [part for layer in whole for part in layer.values() if part.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    loss_of(whole, x, y, R, lambda part: part).backward()
    optimizer.step()

    swapped = {"all_gather": 0, "reduce_scatter": 0}
    for name in swapped:
        real = getattr(Ranks, name)

        def counted(
            self: Ranks, rank: int, tensor: torch.Tensor, name: str = name, real: object = real
        ) -> object:
            swapped[name] += (rank == 0) * tensor.numel()
            return real(self, rank, tensor)  # type: ignore[operator]

        monkeypatch.setattr(Ranks, name, counted)
    ranks, xs, ys = Ranks(N), x.chunk(N), y.chunk(N)
    parts = [[shard(layer, rank, N) for layer in layers()] for rank in range(N)]
    with ThreadPoolExecutor(N) as pool:
        list(pool.map(lambda rank: step(ranks, rank, parts[rank], xs[rank], ys[rank], R), range(N)))

    for number, layer in enumerate(whole):
        for name, full in layer.items():
            mine = [parts[rank][number][name] for rank in range(N)]
            assert all(part.numel() == full.numel() // N for part in mine)
            torch.testing.assert_close(torch.cat(mine), full, atol=1e-6, rtol=0)
            if name == "W0":
                assert all(part.grad is None for part in mine)
            else:
                gradient = torch.cat([part.grad for part in mine if part.grad is not None])
                torch.testing.assert_close(gradient, full.grad)
    adapters = len(layers()) * 2 * R * D
    assert swapped["reduce_scatter"] == adapters  # only what is trained, whole before it is parted
    assert swapped["all_gather"] == 2 * (adapters + len(layers()) * D * D) // N  # forward and backward


def test_only_the_adapters_are_trained() -> None:
    part = shard(layers()[0], 1, 4)
    assert [name for name, tensor in part.items() if tensor.requires_grad] == ["A", "B"]
    assert torch.equal(part["W0"], layers()[0]["W0"].flatten()[64:128])
    assert sharded.SCALE == 2.0
