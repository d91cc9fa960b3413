"""One training step: what a run makes, what is simulated and what an exported script holds is the same code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping

import pytest
import torch

from peft_lab.engine import lab
from peft_lab.engine import step as simulated
from peft_lab.runs import course, training
from peft_lab.takeaway.generator import printed
from peft_lab.training import batches, step
from peft_lab.training.step import Masters, cast_added


def test_runs_and_simulations_call_the_same_function() -> None:
    assert vars(course)["fit"] is step.fit
    assert vars(step)["train_step"] is vars(simulated)["train_step"] is step.train_step
    inside = inspect.getsource(lab.simulate_lab)
    assert re.search(r"from peft_lab.training.step import .*\btrain_step\b", inside) and "loss_at(" in inside
    for source in (*map(inspect.getsource, (course, training, simulated, lab)), inspect.getsource(step.fit)):
        assert ".backward(" not in source and "clip_grad_norm_(" not in source, source[:80]


def test_what_is_printed_is_the_code_itself() -> None:
    """But for annotations of types that a file of its own need not know, and references into this package."""
    text = printed("training.step.train_step", step.fit, batches.plan, step.rate_at, step.Masters)
    found = {
        node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    for part in (step.train_step, step.fit, batches.plan, step.rate_at, step.Masters):
        own = ast.parse(inspect.getsource(part)).body[0]
        assert ast.dump(_bare(found[part.__name__])) == ast.dump(_bare(own))


def _bare(node: ast.AST) -> ast.AST:
    """Without docstrings and annotations."""
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(each) is not None:
                each.body = each.body[1:] or [ast.Pass()]
            if isinstance(each, ast.FunctionDef):
                each.returns = None
                for argument in (*each.args.args, *each.args.kwonlyargs):
                    argument.annotation = None
    return node


def test_phases_come_in_order_and_the_update_is_adamw() -> None:
    """Against the same step written out by hand, in float32, where masters are the parameters themselves."""
    torch.manual_seed(0)
    ours, plain = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
    plain.load_state_dict(ours.state_dict())
    batch = {"x": torch.randn(8, 4), "y": torch.randn(8, 1)}

    def loss_of(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.mse_loss(model(batch["x"]), batch["y"])

    heard: list[str] = []
    masters = step.Masters(ours)
    optimizer = torch.optim.AdamW(masters.parameters, lr=0.1)
    other = torch.optim.AdamW(plain.parameters(), lr=0.1)
    for _ in range(3):
        loss, norm = step.train_step(ours, batch, loss_of, masters, optimizer, 0.5, heard.append)
        other.zero_grad()
        expected = loss_of(plain, batch)
        expected.backward()
        before = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        other.step()
        assert loss == expected.detach() and norm == before
    assert all(torch.equal(one, two) for one, two in zip(ours.parameters(), plain.parameters(), strict=True))
    assert heard == 3 * ["zero_grad", "forward", "backward", "optimizer"]


@pytest.mark.parametrize(("limit", "longest"), [(0.0, 5.0), (1.0, 1.0)])
def test_gradients_are_cut_to_the_limit(limit: float, longest: float) -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    masters = step.Masters(model)
    optimizer = torch.optim.SGD(masters.parameters, lr=1.0)
    before = model.weight.detach().clone()
    _, norm = step.train_step(
        model, {"x": torch.tensor([[3.0, 4.0]])}, lambda m, b: m(b["x"]).sum(), masters, optimizer, limit
    )
    assert norm == pytest.approx(5.0)
    assert (model.weight.detach() - before).norm() == pytest.approx(longest, rel=1e-4)


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
