"""The published rows renewed from a small checkout with the benchmark's own file layout."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from peft_lab.engine.published import BENCHMARKS, RERUNS
from tests.prose import says
from tools import refresh_published

LANGUAGE, PICTURES = BENCHMARKS.values()
IA3, FULL, CAT = (
    "ia3/llama-3.2-3B-default",
    "full-finetuning/llama-3.2-3B-lr_0.00001",
    "lora/flux2-klein-default",
)


def result(name: str, created: str, test: float, metric: str = "accuracy", **changed: Any) -> dict[str, Any]:
    """A result file, shortened: two intervals, and none of the machine's and PyTorch's descriptions."""
    config = None if name.startswith("full") else {"peft_type": "IA3", "target_modules": ["k_proj", "v_proj"]}
    steps = [
        {"step": step, f"valid {metric}": valid, "train loss": 0.9, "train samples": 4 * step, "train time": time,
         "eval time": 11.8464, "mem reserved avg": 16301288325.12, "elapsed time": 68.1}
        | ({"tokens / sec": speed} if metric == "accuracy" else {})
        for step, valid, time, speed in ((250, 0.4, 33.19739, 6377.58), (500, 0.38, 33.10436, 6283.01))
    ]  # fmt: skip
    lost = (
        {"forgetting": 0.31, "train total tokens": 4198051} if metric == "accuracy" else {"drift": math.nan}
    )
    return {
        "run_info": {
            "created_at": f"{created}T01:51:04+00:00", "experiment_name": name, "peft_branch": "main",
            "train_config": {
                "batch_size": 4, "max_steps": 500, "eval_steps": 250, "compile": False, "optimizer_type": "AdamW",
                "optimizer_kwargs": {"lr": 0.005, "weight_decay": 0.0}, "lr_scheduler": "cosine", "use_amp": False,
            },
            "peft_config": config, "error_msg": "",
        },
        "train_info": {
            "accelerator_memory_reserved_avg": 16179721876, "accelerator_memory_max": 26145193984,
            "train_time": 1059.8734, "file_size": 2546928, "num_trainable_params": 630784,
            "num_total_params": 3213380608, "status": "success",
            "metrics": [*steps, {"step": 500, f"test {metric}": test, "train loss": 0.6, **lost}], **changed,
        },
        "meta_info": {
            "package_info": {
                "transformers-version": "5.13.1", "peft-version": "0.19.2.dev0", "torch-version": "2.13.0+cu130",
            },
        },
    }  # fmt: skip


def write(root: Path, folder: str, found: dict[str, Any], stamp: str = "") -> None:
    results = root / "method_comparison" / folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    name = found["run_info"]["experiment_name"].replace("/", "--")
    (results / f"{name}{stamp}.json").write_text(json.dumps(found), "utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "peft"
    write(root, LANGUAGE.folder, result(IA3, "2026-07-15", 0.4549))
    write(root, LANGUAGE.folder, result(FULL, "2026-07-14", 0.4716))
    failed = result("hra/llama-3.2-3B-rank32", "2026-07-15", 0.1, status="canceled")
    write(root, LANGUAGE.folder, failed)
    write(root, PICTURES.folder, result(CAT, "2026-06-09", 0.6972, "dino_similarity"))
    own = root / "method_comparison" / LANGUAGE.folder / "experiments" / IA3
    own.mkdir(parents=True)
    (own / "adapter_config.json").write_text('{"peft_type": "IA3", "target_modules": null}', "utf-8")
    return root


def rows(file: Path) -> dict[str, dict[str, Any]]:
    return {row["experiment"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}


def test_rows_are_read_and_changes_told(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refresh_published.main([str(checkout)], tmp_path) == 0
    told = capsys.readouterr().out
    assert says(told, "MetaMathQA", "0 rows", "2 now") and f"new: {IA3}, test 0.455" in told
    found = rows(tmp_path / LANGUAGE.file)
    assert list(found) == [FULL, IA3]  # the canceled run is none
    row, picture = found[IA3], rows(tmp_path / PICTURES.file)[CAT]
    shipped = json.loads((refresh_published.SHIPPED / LANGUAGE.file).read_text("utf-8").splitlines()[0])
    assert list(row) == list(shipped)
    assert row["stepping_seconds_by_interval"] == [33.197, 33.104] and row["tokens_per_second"] == 6330.3
    assert row["learning_rate"] == 0.005 and row["created"] == "2026-07-15" and row["valid_best"] == 0.4
    assert row["adapter_config"] == {"peft_type": "IA3", "target_modules": None}  # the experiment's own
    assert found[FULL]["adapter_config"] is None and picture["drift"] is None
    assert picture["adapter_config"]["target_modules"] == ["k_proj", "v_proj"]  # no experiment: as it ran
    before = (tmp_path / LANGUAGE.file).read_text("utf-8")
    assert refresh_published.main([str(checkout)], tmp_path) == 0
    assert (tmp_path / LANGUAGE.file).read_text("utf-8") == before
    again = capsys.readouterr().out
    assert says(again, "MetaMathQA", "2 rows", "2 now") and "changed" not in again and "new" not in again
    assert (tmp_path / RERUNS).read_text("utf-8") == ""
