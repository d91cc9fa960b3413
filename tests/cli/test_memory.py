"""``memory`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peft_lab.cli import memory
from peft_lab.errors import SimulationError
from peft_lab.memory.simulate import Setting, simulate

from .conftest import Run

ASK = ("memory", "--model", "gpt2", "--batch", "2", "--seq", "32")
PARTS = {"weights", "adapter", "gradients", "optimizer", "activations", "other"}


def test_the_contracts_fields(run: Run) -> None:
    (row,) = run(*ASK, "--method", "lora", "--set", "r=4", "--json").document
    assert set(row) >= {
        "model",
        "method",
        "peak_bytes",
        "reserved_bytes",
        "parts",
        "timeline",
        "source",
        "seconds",
    }
    assert set(row["parts"]) == PARTS
    assert row["source"] == "simulated"
    assert sum(row["parts"].values()) == row["peak_bytes"] <= row["reserved_bytes"]
    assert all(
        isinstance(value, int) for value in (row["peak_bytes"], row["reserved_bytes"], *row["parts"].values())
    )
    assert max(point["bytes"] for point in row["timeline"]) == row["peak_bytes"]
    assert {"phase", "bytes"} <= set(row["timeline"][0])
    assert row["peak_bytes"] == simulate("gpt2", "lora", {"r": 4}, Setting(2, 32)).peak_bytes


def test_every_option_reaches_the_simulation(run: Run) -> None:
    def peak(*more: str) -> int:
        peak: int = run(*ASK, "--method", "full", "--seq", "128", *more, "--json").document[0]["peak_bytes"]
        return peak

    usual = peak()
    assert peak("--dtype", "float32") > usual
    assert peak("--optimizer", "sgd") < usual
    assert peak("--checkpointing", "--batch", "16") < peak("--batch", "16")
    assert peak("--generate", "256,40") > usual


def test_methods_and_files_have_a_row_each(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", "r": 8, "target_modules": ["c_attn"]}))
    rows = run(*ASK, "--method", "lora,bitfit", "--adapter-config", str(file), "--json").document
    assert [row["method"] for row in rows] == ["lora", "bitfit", "lora"]
    assert rows[2]["adapter_config"] == str(file)
    assert rows[0]["peak_bytes"] == rows[2]["peak_bytes"]


def test_the_table_says_what_it_shows(run: Run) -> None:
    shown = run(*ASK, "--method", "lora").stdout
    for word in ("simulated", "reserved", "lora", *PARTS):
        assert word in shown


def test_one_that_cannot_be_simulated_leaves_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(model: str, method: str, *rest: object) -> object:
        if method == "bitfit":
            raise SimulationError("it needs values")
        return simulate(model, method, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(memory, "simulate", picky)
    done = run(*ASK, "--method", "bitfit,lora", "--json")
    assert done.status == 1
    assert [row["method"] for row in json.loads(done.stdout)] == ["lora"]
    assert done.stderr == "error: bitfit: it needs values\n"
    alone = run(*ASK, "--method", "bitfit", "--json")
    assert (alone.status, alone.stdout, alone.stderr) == (1, "", "error: it needs values\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "0"], "batch"),
        (["--batch", "-1"], "batch"),
        (["--seq", "99999999999"], "seq"),
        (["--seq", "long"], "--seq"),
        (["--generate", "50"], "50,300"),
        (["--generate", "a,b"], "50,300"),
        (["--generate", "-1,3"], "50,300"),
        (["--generate", "0,3"], "generate"),
        (["--optimizer", "adam"], "adamw"),
        (["--dtype", "float8"], "bfloat16"),
        (["--method", "lroa"], "'lora'"),
        (["--model", "gtp2"], "'gpt2'"),
        (["--set", "r=0", "--method", "lora"], "Rank"),
    ],
)
def test_bad_input(run: Run, arguments: list[str], said: str) -> None:
    assert said in run(*ASK, *arguments).refused()


def test_a_bad_config_names_its_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for content in ({"peft_type": "MAGIC"}, {"peft_type": "LORA", "target_modules": ["nowhere"]}):
        file.write_text(json.dumps(content))
        assert str(file) in run(*ASK, "--adapter-config", str(file)).refused()
