"""The table of devices. There is no GPU where these tests usually run: torch's answers about NVIDIA's, AMD's and
Apple's are stand-ins here, so what is tested is what we make of them, not that a training runs there."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import peft_lab
from peft_lab.cli import machine
from peft_lab.core import machine as here
from peft_lab.core.errors import BadInput
from peft_lab.engine import devices
from peft_lab.models import loading
from peft_lab.models.catalogue import get_model
from peft_lab.models.quantise import Quantization
from peft_lab.runs import admission
from tests.prose import facts

PACKAGE = Path(peft_lab.__file__).parent
GIB = 2**30


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="H100", total_memory=80 * GIB, major=9, minor=0)
    for name, answer in {
        "is_available": True,
        "get_device_properties": card,
        "device_count": 2,
        "mem_get_info": (70 * GIB, 80 * GIB),
        "is_bf16_supported": True,
        "max_memory_allocated": 11,
        "max_memory_reserved": 13,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


@pytest.fixture
def mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.backends.mps, "is_macos_or_newer", lambda major, minor: (major, minor) <= (13, 3)
    )
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * GIB)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2 * GIB)
    monkeypatch.setattr(here, "free_memory", lambda: 11 * GIB)


def test_an_nvidia_gpu_goes_first(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert here.in_use() is here.CUDA
    found = here.in_use().describe()
    assert found == {
        "kind": "cuda", "name": "H100", "count": 2, "bytes": 80 * GIB, "platform": "CUDA 13.0",
    }  # fmt: skip
    assert devices.gpu_facts() == ("H100", 80 * GIB, (9, 0))
    assert admission.free_on_device(0) == ("cuda", 70 * GIB)
    assert here.in_use().peaks() == {"device_allocated_bytes": 11, "device_reserved_bytes": 13}
    assert here.compute_dtype() is torch.bfloat16
    monkeypatch.setattr(torch.version, "hip", "6.4")  # one of AMD's answers as CUDA
    assert here.in_use().describe()["platform"] == "ROCm 6.4"
    assert loading.attention_for(here.in_use().kind, 8, get_model("smollm2-135m")) == "sdpa"


def test_apples_gpu_is_trained_on(mps: None) -> None:
    assert here.in_use() is here.MPS
    assert here.in_use().describe()["bytes"] == 12 * GIB
    assert here.in_use().free() == 10 * GIB, "what Metal leaves, less than what the system has"
    assert here.in_use().peaks() == {}
    assert here.in_use().simulated_as == "cpu"
    assert here.compute_dtype() is torch.float32, "macOS 13 has no bfloat16 there"
    assert devices.gpu_facts() is None


def test_apples_gpu_says_what_it_cannot(mps: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader refuses with the sentence that the doctor shows, before it reads any weights."""
    monkeypatch.setattr(here, "find_spec", lambda name: None)
    monkeypatch.setattr(loading, "weights_of", lambda name: name)
    with pytest.raises(BadInput, match=facts("quantise", "Apple's")) as refused:
        loading.load_base("smollm2-135m", quantization=Quantization(4, "nf4", True, "bfloat16"))
    assert machine._quantise() == (False, str(refused.value))


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_doctor_says_what_the_loader_does(
    native: bool, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "in_use", lambda: here.CPU)
    monkeypatch.setattr(here, "cpu_features", lambda: ["amx_bf16"] if native else ["avx2"])
    detail = machine._bfloat16(here.CPU.describe(), here.cpu_features())[1]
    assert ("float32" not in detail) == native
    assert here.compute_dtype() is dtype


def test_a_container_leaves_what_it_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "GROUP", tmp_path)
    assert here.memory_limit() is None
    whole = here.free_memory()
    (tmp_path / "memory.max").write_text(str(whole // 2))
    (tmp_path / "memory.current").write_text(str(whole // 4))
    assert here.free_memory() == whole // 2 - whole // 4
    (tmp_path / "memory.max").write_text("max\n")
    assert here.memory_limit() is None


def test_nothing_else_asks_torch_which_devices_there_are() -> None:
    asking = re.compile(r"^[^#\n]*torch\.(?:cuda|mps|backends\.mps)\.\w+\(", re.M)
    found = [path.name for path in PACKAGE.rglob("*.py") if asking.search(path.read_text(encoding="utf-8"))]
    assert found == ["machine.py"]
