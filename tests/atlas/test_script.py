"""The short run's script: Python that a linter accepts, and the losses of the page's run."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from peft_lab.atlas import all_types, entries, get_entry, live
from peft_lab.core.errors import Unsupported
from tests import forked
from tests.takeaway.test_script import assert_clean
from tools.atlas_probe import training


def test_every_script_is_python_without_this_package(tmp_path: Path) -> None:
    for name, entry in entries().items():
        if live.script_refusal(entry):
            with pytest.raises(Unsupported, match="no script"):
                live.script(entry)
            continue
        text = live.script(entry)
        assert f'"peft_type": "{entry.type}"' in text and "peft_lab" not in text
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    assert_clean(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(entries()) - len(live.MIXING)


@cache
def started(layers: int | None) -> Any:
    """The model as the page reads it, or its first layers, once for all types: each trains a copy."""
    return live.rows_for(live.LIVE["causal"], layers)


def with_layers(text: str, layers: int) -> str:
    """A script on the model's first layers alone."""
    read = "model.config.use_cache = True\n"
    cut = f"model.model.layers = model.model.layers[:{layers}]\nmodel.config.num_hidden_layers = {layers}\n"
    assert text.count(read) == 1
    return text.replace(read, read + cut)


TYPES = [name for name in all_types() if name not in live.MIXING]


@pytest.mark.slow
@pytest.mark.sampled(60)
@pytest.mark.parametrize("name", TYPES)
def test_its_losses_are_those_of_the_page(name: str, tmp_path: Path, one_thread: None) -> None:
    """In three steps: those that follow are made by the same lines. The first type on the whole model, the others on
    its first layers, where a step costs a fifth; both with one thread, as sums in another order differ."""
    entry = get_entry(name)
    layers = None if name == TYPES[0] else training.LAYERS
    run = live.train_live(name, "causal", 3, (entry.rate,), start=started(layers))
    text, changed = re.subn(r"STEPS = \S+ \d+", f"STEPS = {entry.rate!r}, 3", live.script(entry))
    assert changed == 1
    text = text if layers is None else with_layers(text, layers)
    (tmp_path / "run.py").write_text(text, "utf-8")
    done = forked.run(tmp_path / "run.py")
    assert done.returncode == 0, done.stderr[-2000:]
    losses = [float(value) for value in re.findall(r"^step .*loss (\S+)$", done.stdout, re.MULTILINE)]
    assert losses == pytest.approx(run.steps, abs=2e-4 * max(1.0, *run.steps))
