"""The tools' own schemas: what we write they take, and what we read they have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml
from transformers import Seq2SeqTrainingArguments

from peft_lab.advise.foreign.reading import keys_of
from peft_lab.advise.plans import configs
from tests.advise.plans.test_configs import MODEL, PLANS
from tests.advise.plans.test_script import planned
from tests.conftest import missing

pytestmark = pytest.mark.slow
#: Axolotl and TRL without what they ask for (make schemas).
FOLDER = Path(__file__).parents[3] / ".venv-schemas"
#: Options of launchers, and older names that files still have.
_LAUNCHED = {"num_processes", "num_gpus", "nproc_per_node", "command"}
_OF_CALLS = {
    "model", "model_name", "r", "target_modules", "target_parameters", "bnb_4bit_use_double_quant", "max_seq_length",
    "torch_dtype", "use_4bit_quantization", "use_8bit_quantization", "use_peft_lora",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def tools() -> Iterator[None]:
    """The tools can be imported, by these tests alone."""
    if not FOLDER.exists():
        missing("Axolotl and TRL are not here: make schemas")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("axolotl", "trl")]:
        del sys.modules[name]


@pytest.mark.parametrize(("method", "sharding", "changes"), PLANS)
def test_axolotl_takes_the_config_that_a_plan_writes(
    method: str, sharding: str, changes: dict[str, Any]
) -> None:
    schema = import_module("axolotl.utils.schemas.config").AxolotlInputConfig
    facts = planned(method, sharding, MODEL, **changes)
    if not configs.axolotl_refusal(facts):
        content = yaml.safe_load(configs.axolotl(facts, "LlamaDecoderLayer"))
        # fields of plugins are merged into the schema when they are loaded
        content.pop("liger_fused_linear_cross_entropy", None)
        checked = schema(**content)
        assert content.keys() <= schema.model_fields.keys()
        assert checked.micro_batch_size == facts.plan.batch


def test_axolotl_has_the_keys_that_are_read() -> None:
    schema = import_module("axolotl.utils.schemas.config").AxolotlInputConfig
    old = {"fsdp_config", "bnb_config_kwargs", "liger_fused_linear_cross_entropy", "cut_cross_entropy"}
    read = {key.partition(".")[0] for key in keys_of("axolotl")["keys"]} - old
    assert read <= schema.model_fields.keys()


def test_trl_has_the_keys_that_are_read() -> None:
    trl = import_module("trl")
    kinds = (trl.SFTConfig, trl.DPOConfig, trl.GRPOConfig, trl.ModelConfig)
    known = {field.name for kind in kinds for field in fields(kind)}
    read = set(keys_of("trl")["keys"]) - _LAUNCHED - _OF_CALLS
    assert {key.partition(".")[0] for key in read} <= known


def unread(tool: str, names: set[str]) -> set[str]:
    """The names that a tool has and its file of keys neither reads nor ignores."""
    keys = keys_of(tool)
    patterns = [pattern for group in keys["ignored"] for pattern in group["keys"]]
    return {
        name for name in names - keys["keys"].keys() if not any(fnmatchcase(name, one) for one in patterns)
    }


def test_every_argument_of_the_trainer_is_read_or_ignored_with_a_reason() -> None:
    if transformers.__version__ != keys_of("trl")["trainer"]:
        pytest.skip("the keys were read in another release of transformers")
    names = {field.name for field in fields(Seq2SeqTrainingArguments)}
    assert not unread("trl", names) and not unread("llama_factory", names)
    assert {"per_device_train_batch_size", "optim", "activation_checkpointing"} <= names & keys_of("trl")[
        "keys"
    ].keys()


def test_every_key_of_axolotl_is_read_or_ignored_with_a_reason() -> None:
    schema = import_module("axolotl.utils.schemas.config").AxolotlInputConfig
    nested = {"fsdp_config", "trl", "vllm", "ebft", "bnb_config_kwargs"}
    assert not unread("axolotl", set(schema.model_fields) - nested)


def test_every_argument_of_trl_is_read_or_ignored_with_a_reason() -> None:
    trl = import_module("trl")
    for kind in (trl.SFTConfig, trl.DPOConfig, trl.GRPOConfig, trl.ModelConfig):
        assert not unread("trl", {field.name for field in fields(kind)})
