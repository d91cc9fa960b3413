"""A sample of the hostile model folders that bench/faults tries: a count or one sentence, and never their code."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faults.campaigns import configs
from peft_lab.core.errors import BadInput
from peft_lab.methods.counting.count import count
from peft_lab.models.catalogue import resolve

CASES = dict(configs.cases(200))
# Whose fault or right it is beyond the config is another test's.
REFUSED = {
    "{'pad_token_id': 1000000000}": "makes no model: Padding_idx must be within",
    "{'model_type': 'made-up'}": "does not know its architecture",
    "{'hidden_act': 'made-up', 'activation_function': 'made-up'}": "makes no model: there is no 'made-up'",
    "config.json: deep brackets": "could not be read as a model|is inconsistent",
    "config.json: a pipe": "no usable config.json",
    "config.json: a link to /dev/zero": "no usable config.json",
    "config.json: a link to itself": "no usable config.json",
    "config.json: a list": "could not be read as a model|is inconsistent",
    "config.json: 20 MB": "no usable config.json",
}
COUNTED = (
    "{'_attn_implementation': 'flash_attention_2'}",
    "{'attn_implementation': 'flash_attention_3'}",
    "{'_attn_implementation': 'kernels-community/evil:run'}",
    "{'architectures': 3}",
)


@pytest.mark.parametrize(("what", "message"), REFUSED.items())
def test_each_is_refused_in_one_sentence(what: str, message: str, tmp_path: Path) -> None:
    CASES[what](tmp_path)
    with pytest.raises(BadInput, match=message) as refused:
        resolve(str(tmp_path))
    assert refused.value.field == "model" and "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", COUNTED)
def test_what_only_names_other_kernels_is_counted(what: str, tmp_path: Path) -> None:
    """Parameters do not depend on them, and nothing is loaded that they name."""
    CASES[what](tmp_path)
    found = count(str(tmp_path), "lora", {"r": 4})
    assert found.trainable == found.formula == 2 * 4 * ((64 + 64) + (64 + 32))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_sample_through_the_command_line() -> None:
    for what, found in configs.outcomes(20, first=len(CASES) - 20):
        assert found.fine, f"{what}: {found.told}"
