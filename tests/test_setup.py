"""The rules of the project, each where it would be broken: imports, requirements, targets, theme, licences."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from peft_lab.cli.machine import requirements
from peft_lab.models.assets.store import ASSETS
from tests.conftest import LONGEST, missing
from tests.waits import SECONDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "peft_lab"
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "sklearn")
LIBRARY = [file for file in PACKAGE.rglob("*.py") if PACKAGE / "ui" not in file.parents]
PAGES = [ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py"))]
MAX_LINES, MAX_PAGE_LINES = 700, 80
MAX_TRACKED_BYTES = 1_000_000


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _loaded_by(modules: list[str], forbidden: tuple[str, ...]) -> str:
    """What a fresh Python has loaded of ``forbidden`` after importing ``modules``, and which module brought it."""
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
    found = [heavy for heavy in {forbidden!r} if heavy in sys.modules]
    if found:
        print(name, "loads", *found)
        break
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_library_loads_neither_torch_nor_streamlit_at_import() -> None:
    # files from scratch are for reading: nothing imports them (test_house.py)
    read = [file for file in LIBRARY if file.parent.name == "scratch" and file.stem != "__init__"]
    modules = sorted(_module(file) for file in LIBRARY if file.stem != "__main__" and file not in read)
    assert read and _loaded_by(modules, (*HEAVY, "streamlit")) == ""


def test_the_pages_code_loads_no_torch_at_import() -> None:
    modules = sorted(_module(file) for file in (PACKAGE / "ui").rglob("*.py"))
    assert _loaded_by(modules, HEAVY) == ""


def test_streamlit_is_used_in_ui_alone() -> None:
    assert [_module(file) for file in LIBRARY if "streamlit" in set(_imports(file))] == []


def test_modules_stay_small_and_named() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    lines = {_module(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert [file for file in files if file.stem in ("utils", "util", "helpers", "common", "misc")] == [], (
        "says nothing about what is in it"
    )
    assert {module: count for module, count in lines.items() if count > MAX_LINES} == {}


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_pages_are_thin(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_PAGE_LINES
    assert not set(_imports(file)) & set(HEAVY)


def test_requirements_are_ranges() -> None:
    for name, wanted in requirements().items():
        assert re.fullmatch(r">=[0-9.]+,<[0-9.]+", wanted), (
            f"{name}{wanted} is no range that a later install survives"
        )


def test_what_is_imported_is_required() -> None:
    owners = metadata.packages_distributions()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [Requirement(line).name for lines in project["optional-dependencies"].values() for line in lines]
    required = {re.sub(r"[-_.]+", "-", name).lower() for name in (*requirements(), *extras)}
    undeclared = {
        f"{name} ({_module(file)})"
        for file in [*PACKAGE.rglob("*.py"), *PAGES]
        for name in _imports(file)
        if name not in sys.stdlib_module_names and name != "peft_lab"
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(name, ["?"])} & required
    }
    assert not undeclared


def _git(*arguments: str) -> str:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        missing("not a git checkout")
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "name",
    [".venv/bin/python", ".peft_lab_home/models/m/model.safetensors", "peft_lab/__pycache__/a.pyc", "a.gguf"],
)
def test_what_is_made_here_is_ignored_by_git(name: str) -> None:
    assert _git("check-ignore", name).strip() == name


def test_no_links_weights_or_large_files_are_tracked() -> None:
    assert not [line for line in _git("ls-files", "--stage").splitlines() if line.startswith("120000")]
    files = [ROOT / name for name in _git("ls-files", "-z").split("\0") if name]
    large = [file.name for file in files if file.exists() and file.stat().st_size > MAX_TRACKED_BYTES]
    assert not large
    weights = [file for file in files if file.suffix in (".safetensors", ".gguf", ".bin", ".pt", ".whl")]
    shipped = ROOT / "peft_lab" / "studies" / "shipped"  # adapters that are blended, under 1 MB each
    assert not [file for file in weights if file.parents[1] != shipped or file.stat().st_size > 1_000_000]


def test_ci_script_is_strict_executable_bash() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(script)], check=True)


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("make"):
        missing("make is not installed")
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def test_make_test_runs_every_check() -> None:
    plan = _make("-n", "test", "VENV=nowhere").stdout
    for step in ("ruff check", "ruff format --check", "mypy", "peft_lab fetch", "pytest"):
        assert step in plan


def test_ci_has_what_is_not_left_to_a_release_which_has_every_test_once() -> None:
    ci = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text("utf-8"), re.MULTILINE)
    for asked, all_of_them in ((ci, False), (["release"], True)):
        plan = _make("-n", *asked, "VENV=nowhere").stdout
        picks = re.findall(r'^nowhere/bin/python -m pytest (.*)-m "?([^"\n]+)"?$', plan, re.MULTILINE)
        for slow, further, browser in product((True, False), repeat=3):
            for rest in (True, False) if further else (False,):  # tests/conftest.py: what is rest is further
                marks = {"slow": slow, "further": further, "rest": rest}
                times = [eval(marked, marks) for where, marked in picks if ("--ignore" in where) != browser]
                assert sum(times) == (all_of_them or not further), (asked, marks, browser)


def test_the_longest_test_files_are_begun_first() -> None:
    """xdist would sort files by the number of their tests, which says nothing of how long they take."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    assert "--no-loadscope-reorder" in options["addopts"]
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []


def test_make_app_starts_the_app_on_a_port(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "called: $*"\n')
    python.chmod(0o755)
    (tmp_path / ".runtime").touch()
    done = _make("app", f"VENV={tmp_path}", f"PY={python}", "PORT=9123")
    assert done.returncode == 0 and "called: -m peft_lab app --port 9123" in done.stdout


def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2\nexit 1\n')
    python.chmod(0o755)
    done = _make("app", f"VENV={tmp_path / 'env'}", f"PYTHON={python}")
    assert done.returncode != 0
    assert "Python 3.11" in done.stdout
    assert "3.9.2" in done.stdout


def _settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / ".streamlit/config.toml").read_text(encoding="utf-8"))


def test_nothing_leaves_the_machine() -> None:
    settings = _settings()
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["server"]["address"] == "localhost"


def test_pages_are_not_read_for_bare_values() -> None:
    """Python 3.11.0 to 3.11.7 cannot build two syntax trees at once (python/cpython#106905); a class would."""
    assert _settings()["runner"]["magicEnabled"] is False


def test_attributions_name_every_fetched_asset() -> None:
    text = (ROOT / "ATTRIBUTIONS.md").read_text(encoding="utf-8")
    for asset in ASSETS.values():
        assert f"`{asset.package}` {asset.version}" in text
        assert asset.license in text
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
