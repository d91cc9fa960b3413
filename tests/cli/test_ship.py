"""``ship`` and ``check``: the contract of their JSON, bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.cli.conftest import Run


def adapter(folder: Path) -> Path:
    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "use_dora": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    path = "base_model.model.model.layers.0.self_attn.q_proj"
    sides = {"A": np.ones((4, 576), np.float32), "B": np.ones((576, 4), np.float32)}
    tensors = {f"{path}.lora_{side}.weight": values for side, values in sides.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_the_passport_is_what_the_contract_names(run: Run, tmp_path: Path) -> None:
    found = run("ship", str(adapter(tmp_path / "a")), "--base", "smollm2-135m", "--json").document
    verdicts = {row["engine"]: row["verdict"] for row in found}
    assert {name: verdicts[name] for name in ("peft", "vllm", "tgi")} == {
        "peft": "runs",
        "vllm": "change",
        "tgi": "wrong",
    }
    for row in found:
        assert {"engine", "version", "verdict", "reasons", "change", "measured"} <= set(row)
        assert all({"what", "where", "source"} <= set(reason) for reason in row["reasons"])
    table = run("ship", str(tmp_path / "a"), "--base", "smollm2-135m").stdout
    assert "vLLM" in table and "LoRAX" in table


def test_files_for_an_engine_are_written_and_read_back(run: Run, tmp_path: Path) -> None:
    place, out = str(adapter(tmp_path / "a")), tmp_path / "out"
    found = run("ship", place, "--base", "smollm2-135m", "--to", "mlx", "--out", str(out), "--json").document
    assert found.keys() == {"files", "command", "compared"}
    assert {Path(one["path"]).name for one in found["files"]} == {
        "adapters.safetensors",
        "adapter_config.json",
    }
    assert all(one.keys() == {"path", "bytes", "sha256"} for one in found["files"])
    assert found["compared"].keys() == {"tensors", "max_difference"}
    assert found["compared"]["max_difference"] == 0
    assert "not empty" in run("ship", place, "-b", "smollm2-135m", "--to", "mlx", "--out", str(out)).refused()
    assert "--out" in run("ship", place, "--to", "mlx").refused()


def test_the_stages_are_in_order(run: Run, tmp_path: Path) -> None:
    found = run("check", str(adapter(tmp_path / "a")), "--base", "smollm2-135m", "--json").document
    assert [row["stage"] for row in found] == ["trained", "saved", "base", "loads", "merges", "serves"]
    assert all({"ok", "evidence", "fix"} <= set(row) for row in found)
    assert found[3]["ok"] is False and "layers.0.self_attn.v_proj" in found[3]["evidence"]
    assert "trained" in run("check", str(tmp_path / "a"), "-b", "smollm2-135m").stdout


def test_bad_input_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    assert "neither a run" in run("ship", "no such thing").refused()
    assert "no model" in run("ship", str(adapter(tmp_path / "a")), "--base", "smollm-9b").refused().lower()
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    assert "is a pickle" in run("check", str(tmp_path)).refused()
