"""Solutions of exercises give what the libraries give: those of data, memory, serving and sharding."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from peft_lab.interview.write.exercises import exercise

pytestmark = pytest.mark.further


def written(name: str) -> Any:
    """Return the function or class of an exercise's solution."""
    one = exercise(name)
    space: dict[str, Any] = {}
    exec(compile(one.solution, one.id, "exec"), space)
    return space[one.function]


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_the_loss_is_that_of_transformers(random: torch.Generator) -> None:
    from transformers.loss.loss_utils import ForCausalLMLoss

    logits = torch.randn(3, 6, 5, generator=random)
    labels = torch.randint(0, 5, (3, 6), generator=random)
    labels[0, :4], labels[1, 2] = -100, -100
    wanted = ForCausalLMLoss(logits, labels, vocab_size=5)
    torch.testing.assert_close(written("shifted-cross-entropy")(logits, labels), wanted)


def test_a_packed_row_is_that_of_transformers(random: torch.Generator) -> None:
    from transformers import DataCollatorWithFlattening
    from transformers.masking_utils import find_packed_sequence_indices

    rows = [torch.randint(1, 90, (length,), generator=random) for length in (4, 0, 1, 6)]
    collate: Any = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    wanted = collate([{"input_ids": row, "labels": row} for row in rows], return_tensors="pt")
    got = written("pack-rows")([(row, row.clone()) for row in rows])
    for name in ("input_ids", "labels", "position_ids"):
        assert got[name].tolist() == wanted[name][0].tolist()
    assert got["boundaries"].tolist() == wanted["cu_seq_lens_q"].tolist()

    positions = got["position_ids"][None]
    examples: Any = find_packed_sequence_indices(positions)
    mask = written("packed-attention-mask")(positions)[0, 0]
    same = examples[0][:, None] == examples[0][None, :]
    assert torch.equal(mask, same.tril())


def test_positions_of_left_padding_are_those_of_generate() -> None:
    from transformers.generation.utils import GenerationMixin

    got = written("left-padding")([torch.tensor([5, 0, 7]), torch.tensor([8])], 0)
    mixin: Any = GenerationMixin
    wanted = mixin._prepare_position_ids_for_generation(
        None, got["input_ids"], {"attention_mask": got["attention_mask"]}
    )
    assert got["position_ids"].tolist() == wanted.tolist()


def test_an_adamw_step_is_pytorchs(random: torch.Generator) -> None:
    step = written("adamw-step")
    w = torch.randn(3, 4, generator=random)
    parameter, m, v = torch.nn.Parameter(w.clone()), torch.zeros(3, 4), torch.zeros(3, 4)
    optimizer = torch.optim.AdamW([parameter], lr=0.1, betas=(0.9, 0.95), eps=0.01, weight_decay=0.3)
    for t in range(1, 6):
        parameter.grad = torch.randn(3, 4, generator=random)
        w, m, v = step(w, parameter.grad.clone(), m, v, t, 0.1, (0.9, 0.95), 0.01, 0.3)
        optimizer.step()
    torch.testing.assert_close(w, parameter.detach())


def test_a_checkpointed_block_has_pytorchs_gradients() -> None:
    from torch.utils.checkpoint import checkpoint

    found = []
    for run in (written("checkpoint-block").apply, lambda block, x: checkpoint(block, x, use_reentrant=True)):
        torch.manual_seed(3)
        block = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Dropout(0.5), torch.nn.Linear(7, 5))
        x = torch.randn(4, 5, requires_grad=True)
        run(block, run(block, x)).square().sum().backward()
        found.append([x.grad, *(each.grad for each in block.parameters()), torch.rand(())])
    torch.testing.assert_close(*found)


def test_shards_are_those_of_fsdp(random: torch.Generator) -> None:
    handle: Any = importlib.import_module("torch.distributed.fsdp._flat_param").FlatParamHandle
    tensors = [torch.randn(3, 5, generator=random), torch.randn(2, generator=random)]
    whole = torch.cat([each.flatten() for each in tensors])
    for ranks in (2, 3, 4, 5):
        flat = written("flat-parameter")(tensors, ranks)
        padded = torch.nn.functional.pad(
            whole, (0, -len(whole) % ranks)
        )  # FSDP pads the flat parameter first
        for rank in range(ranks):
            assert torch.equal(flat.shard(rank), handle._get_shard(padded, rank, ranks)[0])


@pytest.fixture
def adapted(random: torch.Generator) -> Any:
    """Return a linear layer with two LoRA adapters of PEFT, ``one`` and ``two``, of different ranks."""
    from peft import LoraConfig, get_peft_model

    model: Any = get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(6, 9, bias=False)),
        LoraConfig(r=2, lora_alpha=6, target_modules=["0"]),
        "one",
    )
    model.add_adapter("two", LoraConfig(r=3, lora_alpha=1, target_modules=["0"]))
    for name, each in model.named_parameters():
        if "lora" in name:
            each.data = torch.randn(each.shape, generator=random)
    return model


def parts(adapted: Any, name: str) -> Any:
    layer = adapted.base_model.model[0]
    return layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach(), layer.scaling[name]


def test_a_mixed_batch_is_pefts(adapted: Any, random: torch.Generator) -> None:
    x = torch.randn(4, 2, 6, generator=random)
    layer = adapted.base_model.model[0].eval()
    wanted = layer(x, adapter_names=["two", "__base__", "one", "two"]).detach()
    adapters = [parts(adapted, name) for name in ("one", "two")]
    which = torch.tensor([1, -1, 0, 1])
    got = written("two-adapters-one-batch")(x, layer.base_layer.weight.detach(), adapters, which)
    torch.testing.assert_close(got, wanted)


def test_combined_adapters_are_pefts(adapted: Any) -> None:
    adapters, weights = [parts(adapted, name) for name in ("one", "two")], [0.7, -0.4]
    adapted.add_weighted_adapter(["one", "two"], weights, "cat", combination_type="cat")
    adapted.add_weighted_adapter(["one", "two"], weights, "svd", combination_type="svd", svd_rank=2)
    A, B, scale = parts(adapted, "cat")
    torch.testing.assert_close(written("adapters-as-one")(adapters, weights), (A, scale * B))

    difference = scale * B @ A
    A, B, scale = parts(adapted, "svd")  # all singular values are in B, the exercise splits them
    got_A, got_B = written("lora-from-difference")(torch.ones(9, 6), 1 + difference, 2)
    torch.testing.assert_close(got_B @ got_A, scale * B @ A, rtol=1e-4, atol=1e-4)


def test_scores_stay_in_llama_cpps_row_order(random: torch.Generator) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    heads, kv_heads, d, n, reorder = 4, 2, 6, 5, written("llama-cpp-row-order")
    angles = torch.arange(n)[:, None] * 0.3 ** torch.arange(d // 2)  # (n, d/2)
    halves = torch.cat([angles, angles], 1)[None]

    def neighbours(x: torch.Tensor) -> torch.Tensor:
        """Rotate pairs of neighbours, as ggml's rope does for Llama; (heads, n, d)."""
        turned = torch.view_as_complex(x.reshape(*x.shape[:-1], d // 2, 2)) * torch.polar(
            torch.ones_like(angles), angles
        )
        return torch.view_as_real(turned).flatten(-2)

    maps = {}
    for name, count in (("q", heads), ("k", kv_heads)):
        maps[name] = torch.randn(2, 7, generator=random), torch.randn(count * d, 2, generator=random)
    x = torch.randn(n, 7, generator=random)
    plain: dict[str, torch.Tensor] = {}
    moved: dict[str, torch.Tensor] = {}
    for name, (A, B) in maps.items():
        plain[name] = (x @ A.T @ B.T).view(n, -1, d).transpose(0, 1)
        A, B = reorder(name, A, B, heads, kv_heads)
        moved[name] = neighbours((x @ A.T @ B.T).view(n, -1, d).transpose(0, 1).contiguous())
    q, k = apply_rotary_pos_emb(plain["q"][None], plain["k"][None], halves.cos(), halves.sin())

    def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return q @ k.repeat_interleave(heads // kv_heads, 0).transpose(-1, -2)

    torch.testing.assert_close(scores(moved["q"], moved["k"]), scores(q[0], k[0]), rtol=1e-4, atol=1e-4)
