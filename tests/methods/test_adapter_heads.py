"""Several adapters on one classifier: each answers through the head it was trained with, row by row if asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.shared import peft_backed
from tests.methods import tiny
from tests.prose import facts

_found = get_method("adapters")
assert isinstance(_found, Adapters)
SPEC = _found
NAMES = ("movies", "products")


def trained(name: str, seed: int) -> Any:
    """A classifier whose adapter and head have values of their own."""
    model = tiny.apply(SPEC, name, {"bottleneck": 4, "init_std": 0.5}, head=True)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(params=["bert", "roberta"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any, dict[str, Any]]:
    """The architecture, a base with two adapters loaded, and what each gave on the model it was trained on."""
    architecture, alone = request.param, {}
    base = tiny.build(architecture, head=True)
    for seed, name in enumerate(NAMES):
        model = trained(architecture, seed)
        alone[name] = tiny.outputs(model, tiny.batch(architecture, head=True))
        SPEC.save(model, tmp_path / name)
        SPEC.load(base, tmp_path / name, name)
    return architecture, base, alone


def test_each_answers_as_where_it_was_trained(served: tuple[str, Any, dict[str, Any]]) -> None:
    architecture, base, alone = served
    assert (alone["movies"] - alone["products"]).abs().max() > 1e-2
    for name in (*NAMES, *NAMES):
        SPEC.set_active(base, name)
        torch.testing.assert_close(
            tiny.outputs(base, tiny.batch(architecture, head=True)), alone[name], rtol=0, atol=1e-6
        )


def test_a_mixed_batch_goes_through_both_heads(served: tuple[str, Any, dict[str, Any]]) -> None:
    architecture, base, alone = served
    rows = tiny.batch(architecture, head=True)
    SPEC.set_active(base, ["products", None, "movies"])
    mixed = tiny.outputs(base, rows)
    bare = tiny.outputs(tiny.build(architecture, head=True), rows)
    wanted = torch.stack([alone["products"][0], bare[1], alone["movies"][2]])
    torch.testing.assert_close(mixed, wanted, rtol=0, atol=1e-6)
    SPEC.set_active(base, None)
    torch.testing.assert_close(tiny.outputs(base, rows), bare, rtol=0, atol=1e-6)


def test_a_loaded_head_is_saved_again(served: tuple[str, Any, dict[str, Any]], tmp_path: Path) -> None:
    architecture, base, alone = served
    for name in NAMES:
        SPEC.save(base, tmp_path / "again" / name, name)
        fresh = SPEC.load(tiny.build(architecture, head=True), tmp_path / "again" / name)
        got = tiny.outputs(fresh, tiny.batch(architecture, head=True))
        torch.testing.assert_close(got, alone[name], rtol=0, atol=1e-6)


def test_removed_heads_leave_the_base(served: tuple[str, Any, dict[str, Any]]) -> None:
    architecture, base, _ = served
    SPEC.remove(base)
    plain = tiny.build(architecture, head=True)
    assert [name for name, _ in base.named_modules()] == [name for name, _ in plain.named_modules()]
    assert not any(module._forward_hooks for module in base.modules())
    rows = tiny.batch(architecture, head=True)
    torch.testing.assert_close(tiny.outputs(base, rows), tiny.outputs(plain, rows))


def test_a_head_of_another_size_is_refused() -> None:
    base = tiny.build("bert", head=True)
    with pytest.raises(BadInput, match=r"classifier\.weight"):
        peft_backed.add_head(base, "movies", {"classifier.weight": torch.zeros(5, 32)})


def test_a_name_for_every_row_is_needed(served: tuple[str, Any, dict[str, Any]]) -> None:
    architecture, base, _ = served
    SPEC.set_active(base, ["movies", "products"])
    with pytest.raises(BadInput, match=facts("2 adapters", "3 rows")):
        tiny.outputs(base, tiny.batch(architecture, head=True))
