"""Every causal type that transformers has: a step with each loss, Choose and Plan work, or are refused in one true
sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import PeftLabError, Unsupported
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import memory_of
from peft_lab.methods import get_method
from peft_lab.methods.shared.targets import every_map
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import ModelShape
from tests import every_type
from tests.prose import facts

pytestmark = pytest.mark.filterwarnings("ignore")
#: Looked at in every run of the tests: they call the loss by place, by name, or do more to their logits.
FIRST = ("qwen3_moe", "gemma3_text", "deepseek_v4", "recurrent_gemma")
#: What no step is simulated of, and why.
REFUSED = {
    "blt": "has none of hidden_size",  # a model of bytes, patches and words, each with a width of its own
    "cohere_compass_text": "makes no model",  # its defaults have no rope_parameters
    "dbrx": "makes no model",  # this release builds none of its defaults
    "deepseek_v2": "multiple of 16 bytes",  # grouped products on a width that its defaults leave uneven
    "gemma3n": "requires the timm library",  # its eyes
    "gemma4_unified_assistant": "shared_kv_states cannot be None",  # reads another model's keys and values
    "git": "batch_size",  # takes its loss of what follows an image
    "jetmoe": "values of a tensor",  # sorts tokens by expert on the host
    "longcat_flash": "values of a tensor",  # asks which experts were chosen
    "musicgen": "speech or audio",
    "musicgen_melody": "speech or audio",
    "qwen4_exp": "makes no model",  # its defaults say nothing of its indexer
    "qwen4_exp_text": "makes no model",
    "reformer": "axial_pos_shape",  # rows of one length alone
    "whisper": "speech or audio",
    "xlnet": "expected scalar type",  # makes its mask in 32 bits
    "xmod": "Input language unknown",  # each row has a language
}
#: What takes no loss in chunks, and why.
WHOLE = {
    "in a way of its own": (
        "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "cpmant", "marian", "mbart", "mvp", "pegasus",
        "plbart", "prophetnet", "trocr",
    ),
    "alters its logits": (
        "beam", "cohere", "cohere2", "cohere2_moe", "gemma2", "gemma3n_text", "inkling2_loop_text", "inkling2_text",
        "nanochat", "vaultgemma",
    ),
    "does something to its logits": (
        "falcon_h1", "granite", "granite_swa", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared",
        "hyperclovax", "recurrent_gemma", "xlstm",
    ),
    "plain linear map": ("bert", "dory", "xlm"),
}  # fmt: skip


def every(first: tuple[str, ...], one_in: int = 1) -> list[Any]:
    """The ``first`` of the types where the test belongs, and one in so many of the others in make further or,
    three of four, in make rest."""
    names = [name for name in every_type.names() if name not in every_type.UNMADE]
    others = [name for name in names if name not in first][::one_in]
    marks = [pytest.mark.further, pytest.mark.rest]
    return [
        *(name for name in first if name in names),
        *(pytest.param(name, marks=marks if at % 4 else marks[:1]) for at, name in enumerate(others)),
    ]


def one_sentence(error: PeftLabError) -> str:
    text = str(error)
    assert "\n" not in text and text.endswith((".", "…")) and "wrong type" not in text, text
    return text


@pytest.mark.parametrize("name", every(FIRST))
def test_a_step_with_each_loss(name: str, tmp_path: Path) -> None:
    def step(loss: str) -> int:
        return memory_of(StepRequest(folder, "lora", {}, StepSetting(2, 32, loss=loss))).peak_bytes

    folder = every_type.folder(name, tmp_path / name)
    if name in REFUSED:
        with pytest.raises(PeftLabError, match=REFUSED[name]) as refused:
            step("whole")
        one_sentence(refused.value)
        return
    whole = step("whole")
    reason = next((reason for reason, names in WHOLE.items() if name in names), "")
    if reason:
        with pytest.raises(Unsupported, match=facts("in chunks", reason)) as no_chunks:
            step("chunked")
        assert one_sentence(no_chunks.value) and no_chunks.value.field == "loss"
    else:
        assert 0 < step("chunked") <= whole


def shape_of(name: str, tmp_path: Path) -> ModelShape:
    return resolve(every_type.folder(name, tmp_path / name)).shape


def errors(method: str, shape: ModelShape, values: dict[str, Any]) -> set[str]:
    return {one.field for one in get_method(method).problems(shape, values) if one.level == "error"}


def test_keys_of_two_widths_take_no_prefix(tmp_path: Path) -> None:
    """Gemma 4 attends to all with wider heads than to the tokens nearby; all else about it is counted."""
    shape = shape_of("gemma4_text", tmp_path)
    assert len({group.out_features for group in shape.groups if group.role == "k"}) == 2
    assert errors("prefix", shape, {}) == {"model"} and not errors("lora", shape, {})


def test_a_map_in_groups_is_not_adapted(tmp_path: Path) -> None:
    shape = shape_of("deepseek_v4", tmp_path)
    assert "o_a_proj" in shape.target_names and "o_a_proj" not in every_map(shape)["target_modules"]
    assert "target_modules" in errors("lora", shape, {"target_modules": ("o_a_proj",)})
    assert "o_a_proj" not in get_method("qlora").defaults(shape)["target_modules"]
