from __future__ import annotations

import torch

from peft_lab.training.step import Masters, cast_added


def model() -> torch.nn.Sequential:
    made = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)).to(torch.bfloat16)
    made[0].requires_grad_(False)
    return made


def test_small_updates_add_up_in_the_masters_and_not_in_bfloat16() -> None:
    made = model()
    last = made[1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.ones_(last.weight)
    masters = Masters(made)
    optimizer = torch.optim.SGD(masters.parameters, lr=1e-3)
    for _ in range(8):
        last.weight.grad = torch.ones_like(last.weight)
        masters.take_gradients()
        assert last.weight.grad is None
        optimizer.step()
        masters.publish()
    # each update alone is below what bfloat16 can tell from nothing (1/256)
    assert torch.all(last.weight < 0.995)
    assert (torch.ones(1, dtype=torch.bfloat16) - 1e-3).item() == 1.0
    masters.restore()
    assert last.weight.dtype == torch.float32
    torch.testing.assert_close(last.weight.detach(), torch.full((4, 4), 0.992))


def test_frozen_parameters_have_no_master_and_float32_is_its_own() -> None:
    made = model()
    assert sum(master.numel() for master in Masters(made).parameters) == 20
    plain = torch.nn.Linear(2, 2)
    assert Masters(plain).parameters[0] is plain.weight


def test_what_was_added_is_cast_but_not_a_prompt_encoder() -> None:
    made = torch.nn.ModuleDict({"lora": torch.nn.Linear(2, 2), "prompt_encoder": torch.nn.LSTM(2, 2)})
    cast_added(made, torch.bfloat16)
    assert made["lora"].weight.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in made["prompt_encoder"].parameters())


def test_parameters_are_grouped_by_their_learning_rate() -> None:
    made = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in ("first", "second", "classifier")})
    made["second"].to(torch.bfloat16)
    masters = Masters(made)
    one = masters.groups(0.5, None)
    assert [(group["lr"], len(group["params"])) for group in one] == [(0.5, 6)]
    groups = masters.groups(0.5, 2.0, lambda name: 16.0 if "weight" in name else 1.0)
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.5, 2), (8.0, 2), (2.0, 2)]
    given = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(given) == sorted(map(id, masters.parameters))
    assert all(p.dtype == torch.float32 for group in groups for p in group["params"])
    assert groups[2]["params"] == [made["classifier"].weight, made["classifier"].bias]
