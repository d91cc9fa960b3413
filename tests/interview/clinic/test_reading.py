"""Logs in four formats give the same rows; what cannot be read is refused in a sentence."""

from __future__ import annotations

import json
import math

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.interview.clinic import reading
from peft_lab.interview.clinic.reading import Features, Material, read_log

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
