"""What an installed copy needs: the wheel holds the app, the ranges have two tested ends, pins lie inside them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import peft_lab
from peft_lab.cli.machine import requirements
from peft_lab.cli.start import app_script
from peft_lab.core.errors import PeftLabError

ROOT = Path(__file__).parents[1]


def _ranges(lines: Iterable[str]) -> dict[str, SpecifierSet]:
    """Requirements by their normalised name."""
    return {canonicalize_name((found := Requirement(line)).name): found.specifier for line in lines}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_app_its_pages_and_all_data(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "peft_lab"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not set(tracked) - held
    pages = {f"peft_lab/_app/pages/{page.name}" for page in (ROOT / "pages").glob("*.py")}
    assert (
        pages | {"peft_lab/_app/app.py", "peft_lab/_app/.streamlit/config.toml", "peft_lab/py.typed"} <= held
    )


def test_the_wheel_needs_what_requirements_say(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    stated = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    needed = _ranges(line for line in stated if "extra ==" not in line)
    assert [Requirement(line).name for line in stated if "extra == 'cluster'" in line] == ["ray"]
    assert needed == _ranges(f"{name}{wanted}" for name, wanted in requirements().items())
    assert f"Version: {peft_lab.__version__}" in lines


def test_an_installed_copy_starts_its_own_app(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = """if True:
        from peft_lab.cli.start import app_script
        from peft_lab.cli.machine import requirements
        print(app_script(), len(requirements()))
        """
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    script, amount = done.stdout.rsplit(maxsplit=1)
    assert Path(script) == tmp_path / "peft_lab/_app/app.py", done.stderr
    assert int(amount) == len(requirements())


def test_a_checkout_starts_its_own_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert app_script() == ROOT / "app.py"
    monkeypatch.setattr("peft_lab.cli.start.PACKAGE", tmp_path)
    with pytest.raises(PeftLabError, match=r"has no app\.py"):
        app_script()


def test_the_tested_versions_lie_in_the_ranges() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = _ranges(line for line in lines if not line.startswith("#"))
    for name, wanted in _ranges(f"{name}{wanted}" for name, wanted in requirements().items()).items():
        if name != "pip":  # every environment brings its own
            assert wanted.contains(str(pinned[name]).removeprefix("==")), name


@pytest.mark.parametrize(("name", "wanted"), requirements().items())
def test_every_range_has_both_ends(name: str, wanted: str) -> None:
    """``make ends`` installs them; without a lower one that would be a package's very first release."""
    assert [end.operator for end in sorted(SpecifierSet(wanted), key=str, reverse=True)] == [">=", "<"], name


def test_one_version_and_one_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["dynamic"] == ["version", "dependencies"]
    assert project["scripts"] == {"peft-lab": "peft_lab.__main__:main"}
