"""Scripts are carried out and make the numbers of the run: every method, its settings, and what a run may be like."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peft_lab import export, loading
from peft_lab.errors import BadInput
from peft_lab.methods import all_methods
from peft_lab.models import resolve
from peft_lab.runs import store
from peft_lab.runs.store import Run
from .conftest import KINDS, Train

SAME = 1e-3


def carry_out(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a script leaves in its names, carried out in this process, which has the libraries loaded."""
    path = folder / "repeat.py"
    path.write_text(export.script(run), "utf-8")
    monkeypatch.chdir(folder)
    return runpy.run_path(str(path))


def assert_same(run: Run, left: dict[str, Any]) -> None:
    record = run.record()
    assert len(record["loss"]) == len(left["losses"])
    assert left["losses"] == pytest.approx(record["loss"], abs=SAME)
    for which, name in (("base", "before"), ("tuned", "after")):
        wanted = record["evaluation"][name]
        assert left[which][0] == pytest.approx(wanted[record["metric"]["name"]], abs=1e-9), which
        assert left[which][1] == pytest.approx(wanted["loss"], abs=SAME), which


def assert_same_adapter(run: Run, left: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import load_file

    mine, its = (load_file(str(Path(folder) / "adapter_model.safetensors")) for folder in (left["OUT"], run.adapter))
    assert {name.replace("adapters.default.", "") for name in its} == set(mine) or set(its) == set(mine)
    for name, tensor in mine.items():
        other = its[name] if name in its else its[name.replace(".bottleneck.", ".bottleneck.adapters.default.")]
        torch.testing.assert_close(tensor, other, atol=SAME, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slug", all_methods())
def test_every_method_is_repeated(
    slug: str, kind: str, train: Train, tiny: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, shape = all_methods()[slug], resolve(tiny[kind]).shape
    if any(problem.level == "error" for problem in method.problems(shape, {})):
        pytest.skip(f"{method.title} does not run on this model")
    run = train(kind, slug)
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
