"""Tensor parallelism: like real processes, like one process, and like itself at its own depth."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench import sharded_peaks
from peft_lab.advise.plans.steps import split_seconds
from peft_lab.core.errors import Unsupported
from peft_lab.engine import running
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import ShardedResult, simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding, sharding_notes
from peft_lab.engine.timing import kernels
from peft_lab.methods import get_method
from peft_lab.models import meta
from peft_lab.models.catalogue import get_model
from peft_lab.training.batches import Encoded, Packed, collate_packed, no_cache
from tools import ports

MODEL = "llama-3.2-1b"
LAYERS = get_model(MODEL).shape.num_layers
#: How far sums in another order may move a loss.
CLOSE = 2e-5


def ask(
    method: str = "lora", devices: int = 4, *, model: str = MODEL, values: Any = None, kind: str = "tp",
    accumulate: int = 1, checkpointing: bool = False, **setting: Any,
) -> ShardedResult:  # fmt: skip
    step = StepSetting(**{"batch": 2, "seq": 64, **setting})
    request = StepRequest(model, method, values or {}, step, checkpointing=checkpointing)
    return simulate_sharded(request, Sharding(kind, devices, accumulate=accumulate))


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("method", "checkpointing", "accumulate"),
    [
        ("lora", False, 1), ("full", True, 1), ("lora", True, 3), ("ia3", True, 1), ("prompt", True, 1),
        ("ptuning", False, 1), ("adapters", False, 1),
    ],
)  # fmt: skip
def test_a_few_layers_show_what_all_of_them_do(
    method: str, checkpointing: bool, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ask(method, checkpointing=checkpointing, accumulate=accumulate)
    assert short.unrolled
    monkeypatch.setattr(running, "_unrolled", lambda *_: None)
    deep = ask(method, checkpointing=checkpointing, accumulate=accumulate)
    assert not deep.unrolled
    for name in ("peak_bytes", "reserved_bytes", "parts"):
        assert getattr(short, name) == getattr(deep, name), name
    assert [(e.kind, e.count) for e in short.exchanges] == [(e.kind, e.count) for e in deep.exchanges]
    assert short.sent_bytes == pytest.approx(deep.sent_bytes, rel=1e-4)  # the list of norms is of few layers
    assert sum(held.nbytes for held in short.peak) == short.peak_bytes


def most(result: ShardedResult, part: str) -> int:
    return max(point.parts[part] for point in result.points)


@pytest.mark.slow
def test_every_device_has_its_part_of_each_matrix_and_of_what_lies_between_two() -> None:
    whole = ask("full", 1, kind="none")
    for devices in (2, 8):
        split = ask("full", devices)
        for part in ("weights", "optimizer", "gradients"):
            assert most(split, part) == pytest.approx(most(whole, part) / devices, rel=2e-3), part
        # queries, keys, values and the MLP's inside are split; what goes from layer to layer is not
        assert 1 / devices < most(split, "activations") / most(whole, "activations") < 1
    # logits are put together again on every device
    assert most(ask("lora", 8), "logits") == pytest.approx(
        most(ask("lora", 1, kind="none"), "logits"), rel=1e-3
    )


def test_what_is_summed_up_is_what_is_cut() -> None:
    """Forward after the output map and the down map; backward before queries, keys, values, gate and up. LoRA on
    queries and values adds what comes back to its two A in every layer."""
    every = 2 * 64 * get_model(MODEL).shape.hidden * 2  # rows, tokens, width and bytes of a number
    found = {exchange.kind: exchange for exchange in ask("full").exchanges}
    sums = LAYERS * (2 + 5) + 2 + 1  # the embeddings' rows, the gradient before the head, and the norm of all
    assert found["all-reduce"].count == sums
    assert found["all-reduce"].nbytes == pytest.approx((sums - 1) * every, rel=1e-5)
    assert found["all-gather"].count == 1  # the logits
    adapted = {exchange.kind: exchange for exchange in ask("lora").exchanges}
    # nothing is learned before the first layer's queries, keys and values
    assert adapted["all-reduce"].count == sums - 3 + 2 * LAYERS
    assert adapted["all-reduce"].nbytes < found["all-reduce"].nbytes
    # a layer that is made again sums up again, up to its last map, whose sum nobody needs
    again = {exchange.kind: exchange for exchange in ask("full", checkpointing=True).exchanges}
    assert again["all-reduce"].count == sums + LAYERS
    passes = {exchange.kind: exchange for exchange in ask("full", accumulate=3).exchanges}
    assert passes["all-reduce"].count == 3 * (sums - 1) + 1


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.filterwarnings("ignore")
@pytest.mark.rest
def test_where_a_vocabulary_is_split_unevenly_the_fullest_process_is_simulated() -> None:
    """4,001 words on two: the second has 2,000 of them, and fills its logits up to 2,001 before both are put together.
    What is left are step counters, which a device leaves on its host."""
    asked = [case for case in sharded_peaks.cases(2) if case.name.startswith("LoRA, tensor parallelism")]
    assert sharded_peaks.blueprint(asked[0]).config.vocab_size % 2
    simulated = [sharded_peaks.simulated(case) for case in asked]
    measured = sharded_peaks.measured(asked, 2, simulated)
    for case, expected, peaks in zip(asked, simulated, measured, strict=True):
        assert peaks[1] > peaks[0] * 1.004, case.name
        assert 0 <= max(peaks) - expected < 2**15, case.name


@pytest.mark.parametrize(
    ("method", "asked", "reason"),
    [
        ("qlora", {}, "quantised"),
        ("ptuning", {"values": {"encoder_reparameterization_type": "LSTM"}}, "MLP of P-Tuning"),
        ("lora", {"values": {"use_dora": True}}, "DoRA needs"),
        ("lora", {"devices": 16}, "8 devices"),
        ("lora", {"devices": 3}, "32 heads"),
        ("lora", {"model": "qwen2.5-7b", "devices": 7}, "4 heads"),
        ("lora", {"loss": "chunked"}, "chunked loss"),
        ("lora", {"optimizer": "adamw8bit"}, "AdamW and SGD"),
        ("lora", {"model": "gpt2", "devices": 2}, "GPT2LMHeadModel"),
    ],
)
def test_what_is_not_split_says_why(method: str, asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(Exception, match=reason) as error:
        ask(method, **asked)
    assert isinstance(error.value, Unsupported) or "simulated" in str(error.value)


def test_seconds_hide_nothing_that_is_sent() -> None:
    found = ask("lora", seq=512)
    slow, fast = (split_seconds((), found, "a100-80", link) for link in ("pcie", "nvlink"))
    for link, one in (("pcie", slow), ("nvlink", fast)):
        assert one.parts["link"] == pytest.approx(found.sent_bytes / (kernels.LINKS[link] * kernels.REACHED))
    assert slow.value - slow.parts["link"] == pytest.approx(fast.value - fast.parts["link"])
    alone = split_seconds((), ask("lora", 2, seq=512), "a100-80", "nvlink")
    assert fast.parts["compute"] < alone.parts["compute"]
    assert any("No device computes" in note for note in sharding_notes(found.sharding))


def build(method: str, values: dict[str, Any], tied: bool) -> Any:
    """A small Llama that every process makes alike. Those that train biases have some."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    biases = method in ("bitfit", "ia3")
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=101, tie_word_embeddings=tied, use_cache=method in ("prefix", "ptuning"), attention_bias=biases,
        mlp_bias=biases,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    spec, shape = get_method(method), meta.read_shape(model, config, "causal-lm", "llama", "Llama")
    return spec.apply(model, shape, spec.require(shape, values), "CAUSAL_LM")


def rows(packed: bool) -> dict[str, Any]:
    import torch

    if packed:
        made = [Encoded(tuple(range(start, end)), 2) for start, end in ((3, 12), (40, 46), (60, 74))]
        return collate_packed([Packed(tuple(made[:2])), Packed((made[2],))], 0, "cpu")
    ids = torch.randint(0, 101, (2, 16), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "labels": ids}


Seen = tuple[list[tuple[float, float]], dict[str, Any]]


def learned(model: Any, case: Case) -> Seen:
    """Of six steps the loss, and the norm of the gradients before they are clipped; and the first step's gradients."""
    import torch

    if case.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    if case.packed:
        no_cache(model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    kinds: dict[str, Any] = {"sgd": (torch.optim.SGD, 0.5), "adamw": (torch.optim.AdamW, 1e-2)}
    make, rate = kinds[case.optimizer]
    optimizer = make(trained.values(), lr=rate)
    found: list[tuple[float, float]] = []
    first: dict[str, Any] = {}
    for _ in range(6):
        optimizer.zero_grad()
        loss = model(**rows(case.packed)).loss
        loss.backward()
        first = first or {name: whole(parameter.grad).clone() for name, parameter in trained.items()}
        norm: Any = torch.nn.utils.clip_grad_norm_(trained.values(), 0.5)
        optimizer.step()
        found.append((float(loss.detach()), float(whole(norm))))
    return found, first


def whole(tensor: Any) -> Any:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def apart(alone: dict[str, Any], shared: dict[str, Any]) -> float:
    """The largest difference of any gradient, as a share of the largest entry of all of them."""
    assert alone.keys() == shared.keys()
    largest = max(float(each.abs().max()) for each in alone.values())
    return max(float((shared[name] - each).abs().max()) for name, each in alone.items()) / largest


@dataclass(frozen=True)
class Case:
    method: str
    tied: bool = False
    checkpointing: bool = False
    optimizer: str = "adamw"
    values: dict[str, Any] = field(default_factory=dict)
    packed: bool = False


LORA = {"r": 4, "target_modules": ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")}
MIXED = {
    "target_modules": ("q_proj", "o_proj", "up_proj", "down_proj"),
    "feedforward_modules": ("up_proj",),
}
CASES = [
    Case("lora", values=LORA, optimizer="sgd"),
    Case("lora", True, True, values={**LORA, "use_rslora": True}),
    Case("lora", values=LORA, packed=True),
    Case("full", False, True, "sgd"),
    Case("full", True, False),
    Case("full", packed=True),
    Case("ia3", True, True),
    Case("ia3", values=MIXED),  # factors of a map's whole input, and of its summed output
    Case("bitfit", True, True),
    Case("bitfit", values={"subset": "query_mlp"}, packed=True),
    Case("prompt", True, True),
    Case("ptuning", optimizer="sgd"),
    Case("ptuning", values={"version": "v2", "init_weights": "random"}),
    Case("prefix", True, values={"prefix_projection": True, "init_weights": "random"}),
    Case("adapters", True, True),
    Case("adapters", values={"placement": "parallel"}, packed=True),
]


def one_of_two(rank: int, port: int, results: Any) -> None:
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    from peft_lab.engine.sharding.tensor import split_matrices
    from peft_lab.takeaway.ranks import end

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", store=ports.joined(port), rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for case in CASES:
        shared, gradients = learned(
            split_matrices(build(case.method, case.values, case.tied), mesh, "cpu"), case
        )
        alone, wanted = learned(build(case.method, case.values, case.tied), case) if rank == 0 else ([], {})
        results.put((rank, alone, shared, apart(wanted, gradients) if rank == 0 else 0.0))
    end(2)


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.rest
def test_two_processes_learn_what_one_does() -> None:
    context = multiprocessing.get_context("spawn")
    store = ports.meeting()
    results = context.SimpleQueue()
    processes = [context.Process(target=one_of_two, args=(rank, store.port, results)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert not any(process.exitcode for process in processes)
    found = [results.get() for _ in range(2 * len(CASES))]  # short enough to wait in the pipe
    for case, (_, alone, shared, off), (_, _, other, _) in zip(
        CASES, [one for one in found if one[0] == 0], [one for one in found if one[0] == 1], strict=True
    ):
        assert shared == other, case
        assert off < 1e-4, case
        assert alone[-1][0] < alone[0][0] - 0.01 * (case.method in ("full", "lora")), case
        for (loss, norm), (split, altogether) in zip(alone, shared, strict=True):
            assert split == pytest.approx(loss, abs=CLOSE if case.optimizer == "sgd" else 10 * CLOSE), case
            assert altogether == pytest.approx(norm, rel=2e-3), case
