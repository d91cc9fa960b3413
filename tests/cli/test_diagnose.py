"""``diagnose``: a ranked list on stdout, bad files in one line with exit status 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.cli.conftest import Run
from tests.prose import says


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 0}))
    return file


def test_the_list_is_ranked_and_says_what_the_contract_names(run: Run, config: Path) -> None:
    found = run("diagnose", "--config", str(config), "--json").document
    assert found[0]["fault"] == "alpha-zero" and 0.5 < found[0]["probability"] < 1
    assert found[0]["evidence"] == ["lora_alpha is 0 (with r = 8)"]
    assert {"fault", "probability", "evidence", "fix", "reference"} <= set(found[0])
    assert "lora_alpha is 0" in run("diagnose", "--config", str(config)).stdout


def test_without_a_fault_it_says_what_was_not_looked_at(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("step,loss\n" + "\n".join(f"{n},{2 / (n + 1)}" for n in range(20)))
    done = run("diagnose", "--log", str(log), "--json")
    assert done.document == []
    assert "No fault was found" in done.stderr and "the adapter's weights" in done.stderr


def test_an_adapter_folder_is_read(run: Run, config: Path) -> None:
    save_file({"x.lora_B.weight": np.zeros((4, 4), np.float32)}, config.parent / "adapter_model.safetensors")
    found = run("diagnose", "--adapter", str(config.parent), "--json").document
    assert {each["fault"] for each in found} == {"alpha-zero", "never-trained"}


def test_bad_input_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    assert "nothing to diagnose" in run("diagnose").refused()
    torn = tmp_path / "torn.json"
    torn.write_text("{")
    assert says(run("diagnose", "--config", str(torn)).refused(), "torn.json", "JSON")
    assert "cannot be read" in run("diagnose", "--log", str(tmp_path / "none.csv")).refused()
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    assert "is a pickle" in run("diagnose", "--adapter", str(tmp_path)).refused()
