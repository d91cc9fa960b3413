"""Depth by unrolling equals depth by running, over architectures, methods and checkpointing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.memory import account, simulate
from peft_lab.memory.build import Quantise
from peft_lab.memory.setting import Setting
from tests.memory import small

METHODS: dict[str, dict[str, Any]] = {
    "FULL": {},
    "LORA": {"r": 4},
    "DORA": {"r": 4, "use_dora": True},
    "ADALORA": {"total_step": 100},
    "IA3": {},
    "LN_TUNING": {},
    "VERA": {"r": 16},
    "OFT": {"oft_block_size": 8},
    "PROMPT_TUNING": {"num_virtual_tokens": 6},
}


def _method(name: str, kind: str) -> Any:
    if name == "FULL":
        return None
    fields = dict(METHODS[name])
    return small.adapter("LORA" if name == "DORA" else name, kind, **fields)


def _figures(blueprint: Any, setting: Setting) -> tuple[bool, int, int, dict[str, int], int]:
    trace, _, unrolled = simulate.run(blueprint, setting)
    points = account.timeline(trace)
    top = max(points, key=lambda point: point.nbytes)
    return unrolled, top.nbytes, account.reserve(trace, (8, 9)).reserved, top.parts, len(trace.events)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(["llama", "gpt2", "bert"]),
    name=st.sampled_from(sorted(METHODS)),
    layers=st.integers(6, 9),
    batch=st.integers(1, 5),
    seq=st.integers(3, 70),
    checkpointing=st.booleans(),
    padded=st.booleans(),
    optimizer=st.sampled_from(["adamw", "sgd", "adamw8bit"]),
)
def test_unrolled_equals_run(
    kind: str, name: str, layers: int, batch: int, seq: int, checkpointing: bool, padded: bool, optimizer: str
) -> None:
    if kind == "gpt2" and name in ("VERA", "OFT", "DORA"):
        name = "LORA"
    if name == "LN_TUNING" and kind != "llama":
        name = "IA3"
    setting = Setting(batch, seq, padded=padded, optimizer=optimizer)

    def blueprint() -> Any:
        return small.blueprint(kind, layers, _method(name, kind), checkpointing=checkpointing)

    found = _figures(blueprint(), setting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "DEPTH", 10**6)
        run = _figures(blueprint(), setting)
    assert not run[0]
    assert found[1:] == run[1:]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "name"),
    [("llama", "LORA"), ("llama", "FULL"), ("gpt2", "LORA"), ("bert", "LORA"), ("gemma", "LORA")],
)
def test_like_layers_are_unrolled(kind: str, name: str) -> None:
    blueprint = small.blueprint(kind, 12, _method(name, kind))
    assert simulate.run(blueprint, Setting(2, 16))[2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_bases_too(bits: int) -> None:
    setting = Setting(2, 32)
    found = _figures(small.blueprint("llama", 8, _method("LORA", "llama"), quantise=Quantise(bits)), setting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "DEPTH", 10**6)
        run = _figures(
            small.blueprint("llama", 8, _method("LORA", "llama"), quantise=Quantise(bits)), setting
        )
    assert found[0]
    assert found[1:] == run[1:]


@pytest.mark.filterwarnings("ignore")
def test_unlike_layers_are_run() -> None:
    config = small.adapter(
        "LORA", r=4, layers_to_transform=[0, 3], layers_pattern="layers", target_modules=["q_proj"]
    )
    trace, _, unrolled = simulate.run(small.blueprint("llama", 8, config), Setting(2, 16))
    assert not unrolled
    assert sum(s.nbytes for s in trace.storages if s.part == "adapter") == 2 * 4 * (64 + 64) * 4


@pytest.mark.filterwarnings("ignore")
def test_matrices_shared_over_distance_are_run() -> None:
    """Lily gives every ``stride_A`` layers one A: five layers do not show how many there are."""
    config = small.adapter("LILY", r=4, stride_A=4, num_B=2, target_modules=["up_proj"])
    assert not simulate.run(small.blueprint("llama", 12, config), Setting(2, 16))[2]
