"""Both ends of the ranges in requirements.txt: the tests nearest to the libraries, with the oldest and newest releases.

    python -m tools.ends oldest     # the lowest that every range allows
    python -m tools.ends newest     # what a plain install gets today

An environment of its own is made for an end, unless every release of it is installed in this one: then ``make test``
has tried it. uv finds the releases, as pip does not finish for the lowest. torch is pip's, from where pip is told to
look, as PyPI's for Linux brings 3 GB for GPUs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
TESTS = (
    "tests/methods/test_contract.py", "tests/methods/test_count.py", "tests/engine/test_lab.py", "tests/training",
    "tests/cli/test_count.py",
)  # fmt: skip
#: What comes with torch, whichever it is, and what makes environments: every one has its own.
_TORCHS = ("torch", "triton", "nvidia-", "cuda-")
_MAKERS = ("pip", "setuptools", "wheel", "uv")


def releases(found: str) -> dict[str, str]:
    """Version by name, of lines ``name==version``.

    >>> releases("torch==2.13.0\\npeft==0.21.2 ; sys_platform != 'win32'")
    {'torch': '2.13.0', 'peft': '0.21.2'}
    """
    lines = (Requirement(line) for line in found.splitlines() if line.strip() and line[0] not in "#-")
    return {one.name: next(iter(one.specifier)).version for one in lines}


def without_torch(wanted: Iterable[str]) -> list[str]:
    """Names of what uv installs."""
    return [name for name in wanted if not name.startswith(_TORCHS)]


def differing(wanted: Mapping[str, str]) -> dict[str, str]:
    """Of these releases those that are not installed here, each with what is: empty for none."""
    found = {}
    for name, release in wanted.items():
        try:
            here = version(name)
        except PackageNotFoundError:
            here = ""
        if name not in _MAKERS and (not here or Version(here).public != Version(release).public):
            found[name] = here
    return found


def resolved(end: str) -> dict[str, str]:
    """The end's releases; torch's as pip would install it."""
    how = ("--no-header", "--no-annotate", "--resolution", RESOLUTIONS[end])
    asked = ("-q", "--python", sys.executable, *how, "requirements-dev.txt")
    found = releases(_said(sys.executable, "-m", "uv", "pip", "compile", *asked))
    lowest = f"torch=={found['torch']}"
    ranges = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    torch = lowest if end == "oldest" else next(line for line in ranges if line.startswith("torch>"))
    trial = ("--dry-run", "--ignore-installed", "--no-deps", "-q", "--report", "-", torch.partition(" #")[0])
    report = json.loads(_said(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *trial))
    theirs = {"torch": report["install"][0]["metadata"]["version"]}
    return {name: found[name] for name in without_torch(found)} | theirs


def home_of(end: str) -> Path:
    """Where its environment is made."""
    return ROOT / f".venv-{end}"


def make(end: str, wanted: Mapping[str, str]) -> Path:
    """An environment with these releases; its Python."""
    home = home_of(end)
    _run(sys.executable, "-m", "venv", "--clear", str(home))
    python = next(path for path in (home / "bin/python", home / "Scripts/python.exe") if path.exists())
    lines = home / "found.txt"
    lines.write_text("".join(f"{name}=={wanted[name]}\n" for name in without_torch(wanted)), "utf-8")
    _run(str(python), "-m", "pip", "install", "-q", f"torch=={wanted['torch']}")
    into = ("--python", str(home), "-r", str(lines))
    _run(sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", *into)
    _run(str(python), "-m", "pip", "check")
    return python


def main() -> None:
    given = argparse.ArgumentParser(prog="python -m tools.ends", description=__doc__)
    given.add_argument("end", choices=RESOLUTIONS)
    end = given.parse_args().end
    wanted = resolved(end)
    others = differing(wanted)
    if not others:
        print(f"The {end} releases are those of this environment, which make test has tried.")
        return
    print(f"The {end} releases beside those of this environment:")
    for name, here in others.items():
        print(f"  {name} {wanted[name]} ({here or 'not here'})", flush=True)
    python = make(end, wanted)
    quick = ("-n", "2", "--dist", "loadfile", "-q", "-m", "not slow and not further")
    _run(str(python), "-m", "pytest", *quick, *TESTS)
    shutil.rmtree(home_of(end))  # 2 GB, kept only where there is something to look into


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _said(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    main()
