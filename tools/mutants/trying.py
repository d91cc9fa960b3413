"""Mutants tried one after another, each in a fork of this process, in a copy of the tree."""

from __future__ import annotations

import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tools.mutants.changes import Mutant

ROOT = Path(__file__).parents[2]
LOADED = ("torch", "transformers", "peft", "accelerate", "pandas", "hypothesis", "pytest")
PYTEST = (
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "--hypothesis-seed=0",
    "-W",
    "ignore",
    "-m",
    "not slow and not further and not browser",
)


@dataclass(frozen=True)
class Package:
    """Modules and the tests that are about them. ``own``: tests of one module alone, in place of the package's."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    own: Mapping[str, tuple[str, ...]]

    def tests_of(self, module: str) -> tuple[str, ...]:
        return self.own.get(module, self.tests)


def copy_of_tree(folder: Path) -> Path:
    """The tree as git sees it, compiled so that a changed file is noticed whatever its time and size."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    tree = folder / "tree"
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    compiler = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "peft_lab"]
    subprocess.run(compiler, cwd=tree, check=True)
    return tree


@dataclass(frozen=True)
class Outcome:
    """How the tests ended. ``late``: in no time that the code as it is would need."""

    passed: bool
    late: bool
    processor_seconds: float


def try_all(tree: Path, package: Package, mutants: Sequence[Mutant]) -> list[Mutant]:
    """Those that no test noticed. Raises SystemExit when the tests fail on the code as it is."""
    limits: dict[tuple[str, ...], int] = {}
    survived: list[Mutant] = []
    for number, mutant in enumerate(mutants):
        if number and number % 10 == 0:
            print(f"-- {number} of {len(mutants)}: {len(survived)} survived", flush=True)
        tests = package.tests_of(mutant.module)
        if tests not in limits:
            as_it_is = _tested(tree, tests, keep=True)
            if not as_it_is.passed:
                raise SystemExit(
                    f"{package.name}: the tests fail as the code is:\n{(tree / 'output').read_text('utf-8')}"
                )
            limits[tests] = 10 + int(5 * as_it_is.processor_seconds)
            print(f"-- {' '.join(tests)}: {as_it_is.processor_seconds:.1f} s of a processor", flush=True)
        original = (tree / mutant.module).read_text("utf-8")
        (tree / mutant.module).write_text(mutant.code, "utf-8")
        try:
            outcome = _tested(tree, tests, limits[tests])
        finally:
            (tree / mutant.module).write_text(original, "utf-8")
        if outcome.passed:
            survived.append(mutant)
        if outcome.passed or outcome.late:
            print(f"{'survived' if outcome.passed else 'out of time'}: {mutant}", flush=True)
    return survived


def _tested(tree: Path, tests: Iterable[str], limit: int | None = None, keep: bool = False) -> Outcome:
    """The tests in a fork of this process. One that does not end has noticed something.

    Args:
        limit: seconds of a processor, so that a busy machine kills no mutant; and forty times that by the clock,
            for tests that wait for ever. keep: the compiled tests, for those that follow.
    """
    child = os.fork()
    if child == 0:
        _run(tree, tests, limit, keep)
    deadline = time.monotonic() + (40 * limit if limit else math.inf)
    while time.monotonic() < deadline:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
            return Outcome(status == 0, late, used.ru_utime + used.ru_stime)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return Outcome(False, True, 0.0)


def _run(tree: Path, tests: Iterable[str], limit: int | None, keep: bool) -> None:
    """The forked process: pytest in the copy, as if nothing of this project had been imported."""
    status = 3
    try:
        os.setsid()
        if limit:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        output = os.open(tree / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(tree)
        sys.path[:] = [
            str(tree),
            *(path for path in sys.path if Path(path or ".").resolve() not in (ROOT, tree)),
        ]
        sys.dont_write_bytecode = not keep
        sys.modules["__main__"] = ModuleType(
            "__main__"
        )  # processes that tests start must not import this file
        import pytest

        status = int(pytest.main([*PYTEST, *tests]))
        sys.stdout.flush()
    finally:
        os._exit(status)
