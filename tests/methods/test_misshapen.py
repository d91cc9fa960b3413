"""A stored tensor in another shape than the model's is refused by its name, with both shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.shared import peft_backed
from tests.methods import tiny
from tests.prose import facts


def swapped(file: Path) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Turn a matrix of the file round: its name, and its shape before and after."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    name = next(name for name, each in tensors.items() if each.dim() == 2 and each.shape[0] != each.shape[1])
    before = tuple(tensors[name].shape)
    tensors[name] = tensors[name].T.contiguous()
    save_file(tensors, file, {"format": "pt"})
    return name, before, tuple(tensors[name].shape)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slug", [each.slug for each in all_methods().values() if each.slug != "bitfit"])
def test_an_adapter_with_a_tensor_turned_round(slug: str, tmp_path: Path) -> None:
    method = get_method(slug)
    method.save(tiny.apply(method, "llama", {}), tmp_path)
    try:
        name, before, after = swapped(tmp_path / peft_backed.WEIGHTS_FILE)
    except StopIteration:
        pytest.skip("all its tensors are vectors or square")
    with pytest.raises(BadInput) as caught:
        method.load(tiny.build("llama"), tmp_path)
    told = str(caught.value)
    assert f"'{name}'" in told.replace(".default", "")  # PEFT puts the adapter's name in
    for shape in (before, after):
        assert " × ".join(map(str, shape)) in told
    assert "\n" not in told and caught.value.field == "adapter"


@pytest.mark.filterwarnings("ignore")
def test_biases_are_told_too(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    method: Any = get_method("bitfit")
    method.save(tiny.apply(method, "gpt2", {}), tmp_path)
    file = tmp_path / peft_backed.WEIGHTS_FILE
    tensors = load_file(file)
    name, whole = next(iter(tensors.items()))
    save_file({**tensors, name: whole[:-1].clone()}, file, {"format": "pt"})
    with pytest.raises(BadInput, match=facts(name, len(whole) - 1, len(whole))):
        method.load(tiny.build("gpt2"), tmp_path)
