"""Types train on a live model: 20 steps lower the loss, or the stored answer says why not."""

from __future__ import annotations

import pytest

from peft_lab.atlas import all_types, live, probes
from tools.atlas_probe import cells

KINDS = ("trains_causal", "trains_encoder", "trains_seq2seq")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cell"),
    [(name, cell) for name in all_types() for cell in KINDS if probes.value(name, cell) is not None],
)
def test_it_trains_or_says_why(name: str, cell: str) -> None:
    found = cells.run(name, cell)
    assert found["value"] == probes.value(name, cell), found["why"]
    if found["value"]:
        assert found["after"] < found["before"]


@pytest.mark.slow
def test_lora_trains_on_the_whole_live_decoder() -> None:
    run = live.try_live("lora", "causal", live.STEPS, (1e-3,))
    assert run.fell and len(run.steps) == live.STEPS


@pytest.mark.slow
def test_what_peft_refuses_is_a_sentence() -> None:
    from peft_lab.errors import Unsupported

    with pytest.raises(Unsupported, match="PEFT cannot train this here"):
        live.try_live("adaption_prompt", "encoder", 1, (1e-3,))
