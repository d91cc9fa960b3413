"""Every type of PEFT trains on a live model: twenty steps lower the loss, or the stored reason says why not."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

from peft_lab.atlas import all_types, get_entry, live, rows
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
