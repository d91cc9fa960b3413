"""Every type of PEFT trains on a live model, or the stored reason says why not; a script has the same losses."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from peft_lab.atlas import all_types, entries, get_entry, live, rows
from peft_lab.core.errors import Unsupported
from tests import forked
from tests.takeaway.test_script import assert_clean
from tools.atlas_probe import cells, tiny, training

KINDS = {"encoder": "trains_encoder", "causal": "trains_causal"}
#: What no encoder trains, in a word of PEFT's reason: what the test below asks of the decoder.
NOT_ON_AN_ENCODER = {
    "prefix_tuning": "past key values",
    "cartridge": "past key values",
    "adaption_prompt": "Unsupported model type",
    "cpt": "CAUSAL_LM",
    "xlora": "unexpected keys",
}


@cache
def started(kind: str) -> Any:
    return live.rows_for(live.LIVE[kind], training.LAYERS if kind == "causal" else None)


@pytest.mark.slow
@pytest.mark.sampled(20)
@pytest.mark.parametrize("name", all_types())
def test_twenty_steps_lower_the_loss(name: str) -> None:
    """On MiniLM, or on SmolLM2's first layers what cannot train there."""
    kind = "causal" if name in NOT_ON_AN_ENCODER else "encoder"
    run = live.train_live(name, kind, start=started(kind))
    assert len(run.steps) == live.STEPS == 20
    assert run.after < run.before
    kept = rows.probed(name)[KINDS[kind]]
    assert kept["value"] is True
    assert (kept["before"], kept["rate"]) == (pytest.approx(run.before, rel=1e-3), run.rate)


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", NOT_ON_AN_ENCODER)
def test_what_cannot_train_on_an_encoder_says_why(name: str) -> None:
    found = cells.run(name, "trains_encoder")
    assert found["value"] is False
    assert NOT_ON_AN_ENCODER[name] in found["why"]
    assert found["why"] == rows.why_not(name, "trains_encoder")


@pytest.mark.parametrize(("seconds", "made"), [(0.0, live.STEPS), (math.inf, live.SHOWN)])
def test_a_run_that_takes_too_long_ends_after_its_least_steps(seconds: float, made: int) -> None:
    model, shape = tiny.build("llama")
    lora = get_entry("lora")
    run = live.short_run(model, lora, shape, "CAUSAL_LM", tiny.batch(), lora.rate, live.SHOWN, seconds)
    assert len(run.steps) == made < 100
    assert run.fell


def test_every_type_trains_on_one_of_the_live_models() -> None:
    """What is stored of both, whichever of them the long test above takes."""
    refused = {name for name in all_types() if not rows.probed_value(name, "trains_encoder")}
    assert refused == set(NOT_ON_AN_ENCODER)
    for name in all_types():
        assert rows.probed_value(name, "trains_causal"), (name, rows.why_not(name, "trains_causal"))


@pytest.mark.slow
@pytest.mark.sampled(20)
@pytest.mark.parametrize("name", all_types())
def test_a_tiny_encoder_decoder_answers_as_stored(name: str) -> None:
    found = cells.run(name, "trains_seq2seq")
    assert found["value"] == rows.probed_value(name, "trains_seq2seq"), found["why"]
    assert not found["value"] or found["after"] < found["before"]


@pytest.mark.slow
def test_what_peft_refuses_is_a_sentence() -> None:
    from peft_lab.core.errors import Unsupported

    with pytest.raises(Unsupported, match="PEFT cannot train"):
        live.try_live("adaption_prompt", "encoder", 1, (1e-3,))


# -- The short run's script: Python that a linter accepts, and the losses of the page's run --


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
def cut(layers: int | None) -> Any:
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
    """In three steps: those that follow are made by the same lines. The last type on the whole model, the others on
    its first layers, where a step costs a fifth; both with one thread, as sums in another order differ."""
    entry = get_entry(name)
    layers = None if name == TYPES[-1] else training.LAYERS
    run = live.train_live(name, "causal", 3, (entry.rate,), start=cut(layers))
    text, changed = re.subn(r"STEPS = \S+ \d+", f"STEPS = {entry.rate!r}, 3", live.script(entry))
    assert changed == 1
    text = text if layers is None else with_layers(text, layers)
    (tmp_path / "run.py").write_text(text, "utf-8")
    done = forked.run(tmp_path / "run.py")
    assert done.returncode == 0, done.stderr[-2000:]
    losses = [float(value) for value in re.findall(r"^step .*loss (\S+)$", done.stdout, re.MULTILINE)]
    assert losses == pytest.approx(run.steps, abs=2e-4 * max(1.0, *run.steps))
