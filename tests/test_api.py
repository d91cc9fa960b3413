"""What ``import peft_lab`` gives."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import peft_lab
from peft_lab import api
from tools import write_reference

ROOT = Path(__file__).parents[1]
CONFIG = {"peft_type": "LORA", "r": 8, "target_modules": ["c_attn"], "fan_in_fan_out": True}


def printed(*words: str) -> Any:
    command = [sys.executable, "-m", "peft_lab", *words, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def test_the_import_loads_nothing_heavy() -> None:
    heavy = ("torch", "streamlit", "transformers", "pandas", "rich")
    code = f"import sys, peft_lab; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_examples_hold() -> None:
    assert doctest.testmod(api).failed == 0 < doctest.testmod(api).attempted


@pytest.mark.slow
def test_a_function_returns_what_its_command_prints() -> None:
    found = peft_lab.count("gpt2", "lora", settings={"r": 4})
    (told,) = printed("count", "--model", "gpt2", "--method", "lora", "--set", "r=4")
    assert {**found[0], "seconds": 0} == {**told, "seconds": 0}
    assert str(found.rows[0]["trainable"]) in found.text.replace(",", "")
    assert found.frame().loc[0, "trainable"] == found[0]["trainable"] == 12 * 4 * (768 + 2304)
    assert found.command[0] == "count" and "<pre>" in found._repr_html_()


def test_a_config_of_peft_is_taken_as_its_file_is(tmp_path: Path) -> None:
    from peft import LoraConfig
    from transformers import GPT2Config

    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    config = LoraConfig(r=8, target_modules=["c_attn"], fan_in_fan_out=True)
    given = (config, CONFIG, tmp_path / "adapter_config.json")
    counts = [peft_lab.count("gpt2", one).rows[0]["trainable"] for one in given]
    assert counts == [12 * 8 * (768 + 2304)] * 3
    small = GPT2Config(n_layer=2, n_embd=64, n_head=2, architectures=["GPT2LMHeadModel"])
    assert peft_lab.count(small, CONFIG).rows[0]["trainable"] == 2 * 8 * (64 + 192)


def test_lengths_of_rows_are_taken_as_their_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    files = list[str]()

    def ask(words: list[str]) -> None:
        files.append(Path(words[words.index("--lengths") + 1]).read_text("utf-8"))

    monkeypatch.setattr(api, "_ask", ask)
    peft_lab.peak("gpt2", "lora", batch=2, lengths=[30, 9, 64])
    peft_lab.plan("gpt2", gpu="t4", lengths=[30, 9])
    assert files == ["30\n9\n64", "30\n9"]


def test_bad_input_is_one_sentence_of_the_command() -> None:
    for wrong in ({"nonsense": 3}, {"batch": 0}, {"settings": {"r": -1}}):
        with pytest.raises(peft_lab.BadInput):
            peft_lab.peak("gpt2", "lora", **wrong)
    with pytest.raises(AttributeError):
        _ = peft_lab.nothing


def test_the_reference_is_what_the_docstrings_say() -> None:
    assert write_reference.PAGE.read_text("utf-8") == write_reference.page(), (
        "run python -m tools.write_reference"
    )


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda file: file.stem)
def test_a_notebook_runs(file: Path) -> None:
    cells = json.loads(file.read_text("utf-8"))["cells"]
    scope: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), file.name, "exec"), scope)
