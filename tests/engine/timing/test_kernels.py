"""Seconds of kernels, and the work of a step that they are told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from peft_lab.engine.request import StepSetting
from peft_lab.engine.simulate import simulate_blueprint
from peft_lab.engine.timing import estimate, kernels
from peft_lab.engine.timing.kernels import PINNED, OperationTable, Speed, step
from peft_lab.engine.work import Op, Piece, Work, operations
from tests.engine import small

# -- The roofline and the queue between host and device.

_SPEED = Speed(
    matmul16=1e12, matmul32=1e11, memory=1e9, cache=4e9, held=1000, bus=1e8, start=1e-6, column=1e-6, ask=2e-6,
    view=1e-6,
)  # fmt: skip


def work(*ops: tuple[Op, int], times: int = 1) -> Work:
    return (Piece("forward", times, ops),)


@pytest.mark.parametrize(
    ("op", "seconds"),
    [
        (Op("matmul16", 10**9, 10, (1, 1, 1, 1)), 1e-3),  # arithmetic
        (Op("matmul16", 10, 10**9, (1, 1, 1, 1)), (10**9 - 1000) / 1e9 + 1000 / 4e9),  # bytes
        (Op("matmul32", 10**9, 10, (1, 1, 1, 1)), 1e-2),
        (Op("stream", 0, 800), 2e-7),  # from the cache
        (Op("host", 0, 1000), 1e-5),
        (Op("factor", 0, 0, (1, 32)), 32e-6),
    ],
)
def test_a_kernel(op: Op, seconds: float) -> None:
    (found,) = OperationTable(work((op, 1))).on_device(_SPEED)
    assert found == pytest.approx(seconds + _SPEED.start)


def test_what_takes_longer_hides_the_other() -> None:
    short, long = Op("stream", 0, 4), Op("stream", 0, 10**6)
    assert step(OperationTable(work((short, 100))), _SPEED) == pytest.approx(100 * _SPEED.ask, rel=0.02)
    waiting = step(OperationTable(work((long, 100))), _SPEED)
    assert waiting == pytest.approx(OperationTable(work((long, 100))).on_device(_SPEED)[0] * 100, rel=0.02)


def test_a_busy_device_lets_the_host_run_ahead() -> None:
    """Launches after a long kernel cost nothing as long as the device is behind."""
    long, short = (Op("stream", 0, 10**7), 1), (Op("stream", 0, 4), 100)
    both = step(OperationTable((Piece("forward", 1, (long,)), Piece("backward", 1, (short,)))), _SPEED)
    assert both < step(OperationTable(work(long)), _SPEED) + 101 * _SPEED.start + 3e-6


def test_parts_add_up_and_the_longest_is_named() -> None:
    found = estimate.with_speed(work((Op("stream", 0, 10**6), 10), (Op("view", 0, 0), 5)), _SPEED, (0.5, 2.0))
    assert sum(found.parts.values()) == pytest.approx(found.value)
    assert found.bottleneck == "memory"
    assert (found.low, found.high) == (found.value / 2, found.value * 2)
    asked = estimate.with_speed(work((Op("stream", 0, 4), 50)), replace(_SPEED, ask=1e-3), (1, 1))
    assert asked.bottleneck == "launch"


def test_communication_hides_behind_computing_up_to_a_share() -> None:
    assert kernels.exposed_seconds(1.0, 100.0) == pytest.approx(1 - kernels.OVERLAPPED)
    assert kernels.exposed_seconds(10.0, 1.0) == pytest.approx(10 - kernels.OVERLAPPED)
    assert kernels.exposed_seconds(1.0, 100.0, waits=True) == 1.0
    assert kernels.link_seconds(1e9, "nvlink") < kernels.link_seconds(1e9, "pcie")
    with pytest.raises(Exception, match="string"):
        kernels.link_seconds(1.0, "string")


def test_copies_from_main_memory_come_before_what_is_sent() -> None:
    """Both hide behind the same computing; what stays visible is parted by what each takes."""
    computed = work((Op("matmul16", 10**12, 10**8, (1, 4096, 4096, 4096)), 10))
    sent = 60e9
    split = estimate.seconds(computed, "l40s", 2, "pcie", sent)
    away = estimate.seconds(computed, "l40s", 2, "pcie", sent, copied=30e9)
    assert away.value - split.value == pytest.approx(30e9 / PINNED), "more than computing hides already"
    assert sum(away.parts.values()) == pytest.approx(away.value)
    assert away.parts["host"] == pytest.approx(away.parts["link"] / 2)
    assert split.parts["host"] == 0


def test_faster_cards_are_not_slower() -> None:
    op = (Op("matmul16", 10**12, 10**8, (1, 4096, 4096, 4096)), 10)
    seconds = [estimate.seconds(work(op), gpu).value for gpu in ("t4", "l40s", "a100-80", "h100")]
    assert seconds == sorted(seconds, reverse=True)
    assert estimate.speed_of("h200").memory > estimate.speed_of("h100").memory


# -- What operations of a traced step do, beside what torch counts itself and what a step of all layers does.

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


def test_what_single_operations_move() -> None:
    """Of a list each tensor; what is spread is read once; what comes from the host is a copy; an SVD takes sweeps."""
    aten, tensors = torch.ops.aten, [torch.ones(4), torch.ones(6)]
    (asked, _), *parts = operations(aten._foreach_mul_.Scalar, (tensors, 2.0), {}, tensors)
    assert asked.kind == "view" and [(op.kind, op.nbytes) for op, _ in parts] == [("each", 32), ("each", 48)]
    spread = torch.ones(1, 8).expand(4, 8)
    ((op, _),) = operations(aten.mul.Tensor, (spread, torch.ones(4, 8)), {}, torch.ones(4, 8))
    assert op.nbytes == 4 * (8 + 32 + 32)
    ((op, _),) = operations(aten._to_copy.default, (torch.ones(64),), {}, torch.empty(64, device="meta"))
    assert (op.kind, op.nbytes) == ("host", 256)
    square = torch.ones(16, 16)
    ((inverse, _),) = operations(aten.linalg_inv_ex.default, (square,), {}, (square,))
    ((singular, _),) = operations(aten._linalg_svd.default, (square,), {}, (square,))
    assert inverse.size == (1, 16) and singular.size[1] == 8 * 16
