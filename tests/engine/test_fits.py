"""The search for the largest that fits, and the list of devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core import inspector, machine
from peft_lab.core.errors import UnknownName
from peft_lab.engine import devices as device_list
from peft_lab.engine.devices import THIS, THIS_GPU, devices, get_device
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import (
    largest,
    largest_that_fits,
    longest_row,
    needed_bytes,
    simulate,
)


@given(limit=st.integers(0, 5000), most=st.integers(1, 4096))
def test_the_search_is_right_to_one_in_thirty_two_and_asks_little(limit: int, most: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= limit

    found = largest(fits, most)
    true = min(limit, most)
    assert found <= true
    assert true - found <= max(1, true // 32)
    assert len(asked) <= 20
    assert max(asked) <= most or most == 1


def test_what_fits_fits_and_the_next_larger_does_not() -> None:
    machine = devices()["t4"]
    small = type(machine)("small", "small", 400_000_000, "cuda", (7, 5), "test", 400_000_000)
    asked = StepRequest("minilm-l6", "lora", {}, StepSetting(1, 64), "float32")
    found = largest_that_fits("batch", small, asked, most=64)
    assert found > 0

    def need(batch: int) -> int:
        setting = StepSetting(batch, 64, device="cuda", capability=(7, 5))
        return needed_bytes(simulate(replace(asked, setting=setting)))

    assert small.holds(need(found))
    assert found == 64 or not small.holds(need(found + max(2, found // 16)))


def test_devices_are_sorted_and_named() -> None:
    gpus = [device for device in devices().values() if device.name not in (THIS, THIS_GPU)]
    assert [device.memory for device in gpus] == sorted(device.memory for device in gpus)
    assert all(device.source for device in gpus)
    with pytest.raises(UnknownName, match="rtx-4090"):
        get_device("rtx-409")
    # As PyTorch said in messages from such cards, in GiB, before the context: a training never has more.
    for name, capacity in {"t4": 14.56, "l40s": 44.39, "rtx-4090": 23.64, "rtx-5090": 31.37}.items():
        assert capacity - 1 < get_device(name).memory / 2**30 < capacity


def test_a_container_has_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "GROUP", tmp_path)
    whole = device_list._processor()
    for text in ("max", ""):
        limit.write_text(text)
        assert device_list._processor() == whole
    limit.write_text(str(whole.memory // 2))
    assert device_list._processor().memory == whole.memory // 2
    assert "container" in device_list._processor().source


def test_this_machines_gpu_is_one_of_the_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says stands in for a GPU; without a driver nobody is asked."""
    monkeypatch.setattr(machine, "DRIVERS", (tmp_path / "none",))
    assert device_list.this_gpu() is None
    driver = tmp_path / "version"
    driver.write_text("")
    monkeypatch.setattr(machine, "DRIVERS", (driver,))
    asked: list[object] = []

    def answer(question: object) -> tuple[str, int, tuple[int, int]]:
        asked.append(question)
        return "H100", 80 * 2**30, (9, 0)

    monkeypatch.setattr(inspector, "ask", answer)
    own = device_list.this_gpu()
    assert own and asked == [device_list.gpu_facts]
    assert (own.kind, own.capability, own.memory) == ("cuda", (9, 0), 80 * 2**30 - device_list.CONTEXT)
    assert "H100" in own.title
    monkeypatch.setattr(inspector, "ask", lambda question: None)
    assert device_list.this_gpu() is None


def test_the_longest_row_leaves_room_for_virtual_tokens() -> None:
    setting = StepSetting(1, 600)
    assert longest_row(StepRequest("minilm-l6", "bitfit", {}, setting)) == 512
    assert (
        longest_row(StepRequest("gpt2", "prompt", {"num_virtual_tokens": 20}, StepSetting(1, 1024))) == 1004
    )
