"""A sample of the hostile models that bench/faults tries: a result or one sentence at the model, never their code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.faults.campaigns import configs, knobs
from bench.faults.folder_cases import CASES
from peft_lab.core import inspector
from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory.format import Budget, from_dict
from peft_lab.methods.counting.count import count
from peft_lab.methods.lora import recording as insight
from peft_lab.methods.recording import recorder as recorder_parts
from peft_lab.models import catalogue, loading, own
from peft_lab.models.catalogue import resolve
from peft_lab.runs import course, training
from peft_lab.runs.spec import RunRequest
from peft_lab.training import batches
from peft_lab.training.tasks.base import Row
from tests.models import homemade
from tests.training.test_batches import EXCHANGE, STRICT, tokenizer_of

# -- A sample of the hostile model folders that bench/faults tries: a count or one sentence, and never their code --

CONFIGS = dict(configs.cases(200))
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
    CONFIGS[what](tmp_path)
    with pytest.raises(BadInput, match=message) as refused:
        resolve(str(tmp_path))
    assert refused.value.field == "model" and "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", COUNTED)
def test_what_only_names_other_kernels_is_counted(what: str, tmp_path: Path) -> None:
    """Parameters do not depend on them, and nothing is loaded that they name."""
    CONFIGS[what](tmp_path)
    found = count(str(tmp_path), "lora", {"r": 4})
    assert found.trainable == found.formula == 2 * 4 * ((64 + 64) + (64 + 32))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_sample_through_the_command_line() -> None:
    for what, found in configs.outcomes(20, first=len(CONFIGS) - 20):
        assert found.fine, f"{what}: {found.told}"


# -- A sample of the folders that bench/faults calls a model: trained, or refused at the model in one sentence --

#: What is only noticed by whoever loads the folder.
NOT_LOADED = (
    "all NaN", "all 1e30", "rope of zero", "dropout of two",
    "tokenizer.json: deep", "tokenizer.json: an object", "tokenizer_config: a number",
    "tokenizer_config: marks are unknown words",
)  # fmt: skip
STORED = (
    "GPTQ",
    "AWQ",
    "bitsandbytes in 4 bit",
    "compressed-tensors",
    "torchao",
    "a quantisation without a method",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(homemade.folder("qwen2", tmp_path_factory.mktemp("models") / "qwen2"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is asked of other processes."""
    monkeypatch.setattr(inspector, "ask", lambda function, *args: function(*args))
    yield


def changed(whole: Path, tmp_path: Path, what: str) -> str:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    CASES[what](folder)
    return str(folder)


def request(folder: str) -> RunRequest:
    return RunRequest(folder, "lora", "style", {"r": 2}, steps=1, batch=2, eval_rows=2, max_length=300)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("what", NOT_LOADED)
def test_what_gives_no_numbers_or_no_tokens_is_told_at_the_model(
    what: str, whole: Path, tmp_path: Path
) -> None:
    spec = request(changed(whole, tmp_path, what)).complete()
    with pytest.raises(BadInput) as refused:
        course.prepare(spec)
    assert refused.value.field == "model" and "\n" not in str(refused.value)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("what", STORED)
def test_weights_in_few_bits_are_refused_before_anything_runs(what: str, whole: Path, tmp_path: Path) -> None:
    folder = changed(whole, tmp_path, what)
    named = json.loads((Path(folder) / "config.json").read_text())["quantization_config"].get("quant_method")
    with pytest.raises(BadInput, match=named or "no method named") as refused:
        request(folder).complete()
    assert refused.value.field == "model"
    assert own.lacks(str(whole)) is None


def test_no_kernel_of_a_repository_is_loaded_with_the_weights(whole: Path, tmp_path: Path) -> None:
    folder = changed(whole, tmp_path, "attention of a repository")
    for attention in ("eager", None):
        config: Any = loading.load_base(folder, attention=attention).model.config
        assert config._attn_implementation in ("eager", "sdpa")


def test_layers_without_end_are_not_listed_one_by_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def build(*_: object, **__: object) -> None:
        raise AssertionError("a config object of a billion layers was made")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", build)
    with pytest.raises(BadInput, match="1,000,000,000"):
        catalogue.resolve(changed(whole, tmp_path, "a billion layers"))


def test_a_template_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LONGEST_TEMPLATE", 0.2)
    tokenizer = tokenizer_of("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    loading.guard_template(tokenizer)
    with pytest.raises(loading.TemplateError, match=r"0\.2 s"):
        batches.encode_chat(tokenizer, EXCHANGE, 60)


def test_a_template_that_takes_no_system_message_writes_a_prompt_without() -> None:
    """Gemma 2's is one."""
    tokenizer = tokenizer_of(STRICT)
    loading.guard_template(tokenizer)
    assert batches.render(tokenizer, "How deep?") == "[user]How deep?\n[a]"


@pytest.mark.usefixtures("here")
def test_a_template_that_refuses_every_prompt_is_told_at_the_model(whole: Path, tmp_path: Path) -> None:
    task = request(str(whole)).task_object()
    tokenizer = loading.load_tokenizer(changed(whole, tmp_path, "chat: a division"))
    with pytest.raises(BadInput, match="division") as refused:
        batches.encode(task, [Row("a", "b")], tokenizer, 60)
    assert refused.value.field == "model"


@pytest.mark.usefixtures("here")
def test_the_recording_of_a_model_of_zeros_is_written(whole: Path, tmp_path: Path) -> None:
    """Shares of what is 0 are no numbers, and no part of JSON."""
    ready = course.prepare(request(changed(whole, tmp_path, "all zero")).complete())
    recorder = training.start_recording(ready, "a-run", tmp_path, Budget(share=None))
    recorder.state(0)
    found = from_dict(json.loads((tmp_path / "trajectory.json").read_text("utf-8")))
    assert found.steps == [0] and {share for part in found.parts for share in part.share} == {None}
    assert found.stream.moved == [[0.0] * 3]
    rows = {"input_ids": torch.tensor([ready.rows[0].ids])}
    merged, _ = recorder_parts.merge_check(ready.model, rows, insight.layers)
    assert (merged["max_logit"], merged["relative"]) == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore")
def test_any_settings_on_any_model_are_answered() -> None:
    for what, found in knobs.cases(400, seed=7):
        assert found.fine, f"{what}: {found.told}\n{found.traceback}"
