"""Files in, a ranked list out: every fault that files can show is first for them; and the formats of logs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview.clinic import reading
from peft_lab.interview.clinic.diagnose import (
    SUSPECTED,
    Diagnosis,
    diagnose,
)
from peft_lab.interview.clinic.faults import all_faults, get_fault
from peft_lab.interview.clinic.reading import Features, Material, read_log
from peft_lab.takeaway.ship.adapter import WEIGHTS, from_files

HIDDEN = 384  # of minilm-l6
CONFIG = {
    "peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "minilm-l6", "r": 4, "lora_alpha": 8,
    "target_modules": ["query", "value"], "init_lora_weights": True,
}  # fmt: skip
ARGUMENTS = {"learning_rate": 1e-3, "max_steps": 40}
FALLING = [0.7 * math.exp(-number / 15) + 0.02 * math.sin(number * 2.3) for number in range(40)]
FLAT = [0.69 + 0.02 * math.sin(number * 2.3) for number in range(40)]


def weights(value: float = 0.01, prefix: str = "base_model.model.", names: Sequence[str] = ("query", "value"),
            hidden: int = HIDDEN, head: bool = True) -> dict[str, np.ndarray]:  # fmt: skip
    found = {}
    for name in names:
        path = f"{prefix}bert.encoder.layer.0.attention.self.{name}"
        found[f"{path}.lora_A.weight"] = np.full((4, hidden), 0.1, np.float32)
        found[f"{path}.lora_B.weight"] = np.full((hidden, 4), value, np.float32)
    if head:
        found[f"{prefix}classifier.weight"] = np.full((2, hidden), 0.1, np.float32)
    return found


def log(losses: Sequence[float], norm: float = 1.0, rate: float = 1e-3) -> bytes:
    rows = [
        {"step": n + 1, "loss": x, "grad_norm": norm, "learning_rate": rate} for n, x in enumerate(losses)
    ]
    return json.dumps({"log_history": rows}).encode()


def schedule(rates: Sequence[float], steps: int = 0) -> bytes:
    """A ``trainer_state.json`` of a loss that stays where it was."""
    rows = [
        {"step": n + 1, "loss": FLAT[n % 40], "grad_norm": 1.0, "learning_rate": rate}
        for n, rate in enumerate(rates)
    ]
    return json.dumps(
        {"log_history": rows, "global_step": len(rows)} | ({"max_steps": steps} if steps else {})
    ).encode()


def material(
    config: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    text: bytes | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    name: str = "trainer_state.json",
    **files: Any,
) -> Material:
    found = Material()
    if config is not None:
        found = reading.with_config(found, "adapter_config.json", json.dumps(config).encode())
    if arguments is not None:
        found = reading.with_config(found, "arguments.json", json.dumps(arguments).encode())
    if text is not None:
        found = reading.with_log(found, name, text)
    if tensors is not None:
        folder = {WEIGHTS: save(dict(tensors))} | {
            f"{file}.json": json.dumps(content).encode() for file, content in files.items()
        }
        found = reading.with_adapter(found, from_files("made", folder))
    return found


def healthy(**changed: Any) -> Material:
    given: dict[str, Any] = {
        "config": CONFIG, "arguments": ARGUMENTS, "text": log(FALLING), "tensors": weights(),
    }  # fmt: skip
    return material(**given | changed)


def first(found: Diagnosis) -> str:
    return found.suspicions[0].fault.name if found.suspicions else ""


def test_nothing_is_found_in_a_healthy_run_and_it_is_said_what_was_not_looked_at() -> None:
    found = diagnose(healthy())
    assert not found.found
    assert found.verdict.startswith("No fault was found")
    assert "the console output" in found.verdict and "switched on" in found.verdict


SHOWN: dict[str, dict[str, Any]] = {
    "alpha-zero": {"config": {**CONFIG, "lora_alpha": 0}},
    "base-changed": {"config": {**CONFIG, "init_lora_weights": "pissa_niter_4"}},
    "target-partly-misspelt": {"config": {**CONFIG, "target_modules": ["query", "valve"]}},
    "wrong-base": {"config": {**CONFIG, "base_model_name_or_path": "bert-base"}},
    "head-not-saved": {"tensors": weights(head=False)},
    "compiled-keys": {"tensors": weights(prefix="_orig_mod.base_model.model.")},
    "wrapped-twice": {"tensors": weights(prefix="base_model.model.base_model.model.")},
    "empty-adapter": {"tensors": {}},
    "never-trained": {"tensors": weights(0.0)},
    "optimizer-without-adapter": {"tensors": weights(0.0), "text": log(FLAT)},
    "rate-stays-zero": {"text": log(FLAT, rate=0.0), "tensors": weights(0.0)},
    "warm-up-too-long": {"arguments": {**ARGUMENTS, "warmup_steps": 4000}},
    "rate-too-low": {"text": log(FLAT, rate=1e-6), "arguments": {"learning_rate": 1e-6}},
    "rate-too-high": {"text": log([0.7 + 0.1 * n for n in range(40)]), "arguments": {"learning_rate": 0.5}},
    "fp16-weights": {"text": log([0.7, math.nan, *[math.nan] * 20])},
    "all-masked": {"text": log([0.0] * 20)},
    "checkpointing-no-grad": {
        "text": log(FLAT, norm=0.0), "arguments": {**ARGUMENTS, "gradient_checkpointing": True},
    },
    "frozen-after-wrapping": {"text": log(FLAT, norm=0.0), "arguments": {**ARGUMENTS, "load_in_4bit": True}},
    "prompt-not-masked": {"arguments": {**ARGUMENTS, "completion_only_loss": False}},
    "pad-is-eos": {
        "arguments": {**ARGUMENTS, "data_collator": "DataCollatorForLanguageModeling"},
        "tokenizer_config": {"pad_token": "</s>", "eos_token": {"content": "</s>"}},
    },
    "vocabulary-not-saved": {"added_tokens": {"<one>": 30600}},
    "accumulation-not-averaged": {
        "text": json.dumps([*({"loss": 4 * x} for x in FALLING), {"eval_loss": FALLING[-1]}]).encode(),
        "arguments": {**ARGUMENTS, "gradient_accumulation_steps": 4},
    },
}  # fmt: skip


@pytest.mark.parametrize("fault", SHOWN)
def test_a_fault_that_files_show_comes_first(fault: str) -> None:
    found = diagnose(healthy(**SHOWN[fault]))
    assert first(found) == fault
    assert found.suspicions[0].probability >= SUSPECTED


RISING = [2e-4 * n / 4000 for n in range(40)]
FALLING_EARLY = [max(0.0, 1e-3 * (1 - n / 8)) for n in range(40)]
SCHEDULES: dict[str, tuple[str, dict[str, Any], bytes | None]] = {
    "4,000 steps of warm-up in 40, and the log alone": ("warm-up-too-long", {}, schedule(RISING, 40)),
    "the same without a word on its length": ("warm-up-too-long", {}, schedule(RISING)),
    "beside its rate": ("warm-up-too-long", {"learning_rate": 2e-4}, schedule(RISING)),
    "as long as the run": (
        "warm-up-too-long",
        {"learning_rate": 1e-3},
        schedule([1e-3 * n / 40 for n in range(40)], 40),
    ),
    "arguments alone": ("warm-up-too-long", {"warmup_steps": 4000, "max_steps": 40}, None),
    "a share of 1": ("warm-up-too-long", {"warmup_ratio": 1.0, "max_steps": 40}, None),
    "a share under the name of steps": ("warm-up-too-long", {"warmup_steps": 0.95}, None),
    "over after a fifth": ("rate-stays-zero", {"learning_rate": 1e-3}, schedule(FALLING_EARLY, 40)),
    "never begun": ("rate-stays-zero", {}, schedule([0.0] * 40)),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_a_schedule_that_does_not_reach_its_rate_is_found(case: str) -> None:
    fault, arguments, text = SCHEDULES[case]
    found = diagnose(material(arguments=arguments or None, text=text))
    assert first(found) == fault and found.suspicions[0].probability >= SUSPECTED
    with_adapter = diagnose(
        material(config=CONFIG, arguments=arguments or None, text=text, tensors=weights())
    )
    assert first(with_adapter) == fault


@pytest.mark.parametrize(
    "rates",
    [
        [min(1e-3, 1e-4 * n) for n in range(40)],  # a warm-up and a constant
        [1e-3 * (1 - n / 40) for n in range(1, 41)],  # linear, 0 in the last row
        [1e-3 * (1 + math.cos(math.pi * n / 40)) / 2 for n in range(1, 41)],
        [1e-3 * (0.5 + 0.5 * math.sin(n / 3)) for n in range(40)],  # in circles
        [1e-4 * n for n in range(5)],  # few rows
    ],
)
def test_other_schedules_are_let_be(rates: list[float]) -> None:
    found = diagnose(
        material(text=schedule(rates, len(rates)), arguments={"warmup_steps": 10, "max_steps": 40})
    )
    assert not {each.fault.name for each in found.suspicions} & {"warm-up-too-long", "rate-stays-zero"}


SAID = {
    "target-misspelt": "ValueError: Target modules {'q_proy'} not found in the base model. Please check",
    "fp16-unscale": "ValueError: Attempting to unscale FP16 gradients.",
    "dtype-mismatch": "RuntimeError: expected mat1 and mat2 to have the same dtype, but got: float != c10::BFloat16",
    "checkpointing-no-grad": "UserWarning: None of the inputs have requires_grad=True. Gradients will be None",
    "merged-into-4-bit": "UserWarning: Merge lora module to 4-bit linear may get different generations",
    "right-padding": "Warning: A decoder-only architecture is being used, but right-padding was detected!",
    "tied-head-merged": "UserWarning: Model with `tie_word_embeddings=True` and the ['lm_head'] are "
    "part of the adapter",
    "fresh-then-loaded": "UserWarning: Found missing adapter keys while loading the checkpoint: "
    "['base_model.model.base_model.model.x']",
}


def test_an_adapter_with_a_head_that_is_loaded_onto_a_fresh_one() -> None:
    """It ends in an error before anything is said of missing keys; a first warning speaks for another fault."""
    console = (
        b"UserWarning: Already found a `peft_config` attribute in the model.\n"
        b"KeyError: 'base_model.model.base_model.model.classifier.weight'\n"
    )
    assert first(diagnose(material(text=console, name="out.log"))) == "fresh-then-loaded"


@pytest.mark.parametrize("fault", SAID)
def test_a_message_is_understood_and_quoted(fault: str) -> None:
    found = diagnose(material(text=SAID[fault].encode(), name="out.log"))
    assert first(found) == fault
    assert SAID[fault][:40] in found.suspicions[0].evidence[0]


@pytest.mark.parametrize("given", ["config", "arguments", "text", "tensors"])
def test_any_subset_will_do(given: str) -> None:
    whole: dict[str, Any] = {
        "config": CONFIG, "arguments": ARGUMENTS, "text": log(FALLING), "tensors": weights(),
    }  # fmt: skip
    assert not diagnose(material(**{given: whole[given]})).found


def test_every_fault_has_its_words_and_a_place_where_it_was_met() -> None:
    faults = all_faults()
    assert len(faults) >= 30
    for fault in faults.values():
        assert fault.reference.url.startswith("https://")
        assert fault.why.endswith(".") and fault.fix.endswith(".") and fault.look.endswith(".")
        assert not fault.title.endswith(".")
    with pytest.raises(UnknownName, match="Did you mean 'alpha-zero'"):
        get_fault("alpha-zeros")


ROWS = [{"step": 1, "loss": 2.5, "learning_rate": 0.001}, {"step": 2, "loss": 2.25, "learning_rate": 0.0005}]
FORMATS = {
    "trainer_state.json": json.dumps({"log_history": [*ROWS, {"train_runtime": 9.0, "train_loss": 2.4}]}),
    "list.json": json.dumps(ROWS),
    "log.jsonl": "\n".join(map(json.dumps, ROWS)),
    "log.csv": "step,loss,lr\n1,2.5,0.001\n2,2.25,0.0005\n",
    "out.txt": f"Loading\n{ROWS[0]}\n 50%|██   | {ROWS[1]}\nDone",
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_formats_say_the_same(name: str) -> None:
    rows, messages = read_log(name, FORMATS[name])
    assert [(row.step, row.loss, row.rate) for row in rows] == [(1, 2.5, 0.001), (2, 2.25, 0.0005)]
    assert messages == (("Loading", "Done") if name == "out.txt" else None)


def test_what_transformers_5_prints_and_what_is_no_number() -> None:
    rows, _ = read_log("out.txt", "{'loss': '2.5', 'grad_norm': '0.1'}\n{'loss': nan, 'grad_norm': inf}")
    assert rows[0].loss == 2.5 and rows[0].grad_norm == 0.1
    assert rows[1].loss is not None and math.isnan(rows[1].loss)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("log.csv", "", "is empty"),
        ("log.json", '{"log_history": []}', "contains no loss"),
        ("log.json", '{"loss"', "not a training log"),
        ("notes.txt", "milk, bread", "not a training log"),
    ],
)
def test_a_log_that_is_none_is_refused(name: str, text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_log(name, text)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"{", "not valid JSON"), (b"[1]", "JSON object"), (b"\xff\xfe\x00", "not UTF-8")],
)
def test_a_config_that_is_none_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        reading.with_config(Material(), "config.json", content)


def test_a_base_is_known_by_its_name_its_id_and_a_path() -> None:
    for name in ("minilm-l6", "sentence-transformers/all-MiniLM-L6-v2", "/models/minilm-l6/"):
        config = json.dumps({"peft_type": "LORA", "base_model_name_or_path": name}).encode()
        base = Features(reading.with_config(Material(), "c", config)).base
        assert base is not None and base.hidden == 384, name


def test_a_cell_without_end_is_told_with_its_row() -> None:
    with pytest.raises(
        BadInput, match=r"^Row 3 of log\.csv has a cell of more than 131,072 characters, .+\.$"
    ):
        read_log("log.csv", "step,loss\n1,2.0\n2," + "9" * 140_000 + "\n")
    with pytest.raises(BadInput, match=r"^log\.csv is not a training log\. "):
        read_log("log.csv", "step,loss," + "9" * 140_000 + "\n1,2.0\n")
