"""The files from scratch: whole, short, and in plain torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peft_lab import scratch
from peft_lab.models import loading

FOLDER = Path(scratch.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
METHODS = {"lora", "qlora", "prefix", "prompt", "ptuning", "adapters", "ia3", "bitfit"}
#: What is imported besides torch and the standard library: models to try it on, and the cache that a call takes.
ALLOWED = {
    "AutoModelForCausalLM",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "DynamicCache",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_short_and_imports_torch_and_the_standard_library(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 120
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            assert all(
                name.name.partition(".")[0] in {"torch", *sys.stdlib_module_names} for name in node.names
            )
        elif isinstance(node, ast.ImportFrom) and node.module == "transformers":
            assert {name.name for name in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom):
            assert (
                str(node.module).partition(".")[0] in {"torch", *sys.stdlib_module_names} and not node.level
            )


@pytest.mark.parametrize("stem", sorted(METHODS))
def test_a_method_wraps_trains_saves_and_loads(stem: str) -> None:
    tree = ast.parse((FOLDER / f"{stem}.py").read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"wrap", "train", "save", "load"} <= names
    assert ("merge" in names) == (stem in {"lora", "ia3"})


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("stem, model", [("ia3", "smollm2-135m"), ("bitfit", "minilm-l6")])
def test_a_file_runs_on_a_shipped_model(stem: str, model: str, tmp_path: Path) -> None:
    root = str(FOLDER.parents[1])
    done = subprocess.run(
        [sys.executable, "-m", f"peft_lab.scratch.{stem}", loading.weights_of(model)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    losses = ast.literal_eval(done.stdout.splitlines()[-1])
    assert losses[-1] < losses[0] and (tmp_path / f"{stem}.pt").is_file()
