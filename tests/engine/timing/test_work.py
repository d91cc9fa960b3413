"""What operations of a traced step do, beside what torch counts itself and what a step of all layers does."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from peft_lab.engine.request import StepSetting
from peft_lab.engine.simulate import simulate_blueprint
from peft_lab.engine.work import Op, Work, operations
from tests.engine import small

_STEP = StepSetting(batch=2, seq=32, device="cuda", capability=(8, 9))


def totals(work: Work) -> Counter[Op]:
    found: Counter[Op] = Counter()
    for piece in work:
        for op, count in piece.ops:
            found[op] += count * piece.times
    return found


def work_of(kind: str, layers: int, method: object) -> Work:
    return simulate_blueprint(small.blueprint(kind, layers, method), _STEP, "small", "any").work[-1]


def test_arithmetic_is_what_torch_counts() -> None:
    """Of a real step on values, forward and backward, of the same model."""
    blueprint = small.blueprint("gpt2", 6, None, dtype=torch.float32)
    found = totals(simulate_blueprint(blueprint, _STEP, "small", "full").work[-1])
    model = small.blueprint("gpt2", 6, None, dtype=torch.float32).build()
    real = type(model)(model.config)
    ids = torch.zeros(2, 32, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        real(input_ids=ids, labels=ids).loss.backward()
    counted = {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}
    products = (
        counted["aten.mm"] + counted["aten.addmm"]
    )  # its attention has dropout, which is no fused kernel here
    assert sum(op.flops * count for op, count in found.items() if op.kind == "matmul32") == products


@pytest.mark.parametrize("method", [None, "LORA", "IA3"])
def test_few_layers_do_what_all_do(method: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = None if method is None else small.adapter(method)
    few = totals(work_of("llama", 9, config))
    monkeypatch.setattr("peft_lab.engine.running.DEPTH", 99)
    every = totals(work_of("llama", 9, config))
    assert {op: n for op, n in few.items() if _of_layers(op)} == {
        op: n for op, n in every.items() if _of_layers(op)
    }
    assert few.total() == pytest.approx(every.total(), rel=0.05)


def _of_layers(op: Op) -> bool:
    """What is done to single numbers (AdamW's counters of steps, the norms that are clipped) belongs to no layer and is
    counted for the few layers alone: bytes that no estimate notices."""
    return op.kind != "view" and op.nbytes > 1000


def test_a_list_of_tensors_is_asked_for_once() -> None:
    tensors = [torch.ones(4), torch.ones(6)]
    func = torch.ops.aten._foreach_mul_.Scalar
    (asked, _), *parts = operations(func, (tensors, 2.0), {}, tensors)
    assert asked.kind == "view"
    assert [(op.kind, op.nbytes) for op, _ in parts] == [("each", 32), ("each", 48)]


def test_what_is_spread_is_read_once() -> None:
    row = torch.ones(1, 8).expand(4, 8)
    ((op, _),) = operations(torch.ops.aten.mul.Tensor, (row, torch.ones(4, 8)), {}, torch.ones(4, 8))
    assert op.nbytes == 4 * (8 + 32 + 32)


def test_what_comes_from_the_host_is_a_copy() -> None:
    there = torch.empty(64, device="meta")
    ((op, _),) = operations(torch.ops.aten._to_copy.default, (torch.ones(64),), {}, there)
    assert (op.kind, op.nbytes) == ("host", 256)


def test_singular_values_take_sweeps() -> None:
    square = torch.ones(16, 16)
    ((inverse, _),) = operations(torch.ops.aten.linalg_inv_ex.default, (square,), {}, (square,))
    ((singular, _),) = operations(torch.ops.aten._linalg_svd.default, (square,), {}, (square,))
    assert inverse.size == (1, 16) and singular.size[1] == 8 * 16
