"""Break the code on purpose, one small change at a time, and see whether a test notices: ``make mutants``.

cosmic-ray says what can be changed (its operators); the changes that mean something are chosen here, a seeded sample of
them is tried, and each is tested in a process forked from one that has torch, transformers and PEFT loaded. All of it
happens in a copy of the tree, so that a file under work is never touched. mutants.toml names the packages, their tests
and the changes that make no difference.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
SETTINGS = Path(__file__).with_suffix(".toml")
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
    "not slow and not browser",
)
# Changes with a meaning. Left out: operators put for ones of another kind (a + b for a << b is noticed by anything),
# and removed decorators (here caches, properties and dataclasses: no difference, or no import).
OPERATORS = (
    "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_FloorDiv",
    "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_FloorDiv_Div",
    "ReplaceBinaryOperator_Mod_FloorDiv", "ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_BitOr_BitAnd",
    "ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceBinaryOperator_BitXor_BitOr",
    "ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_Lt_GtE",
    "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_LtE_Gt",
    "ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_Gt_LtE",
    "ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_GtE_Lt",
    "ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Not",
    "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer",
    "ZeroIterationForLoop",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: an occurrence of an operator, and the line before and after."""

    module: str
    operator: str
    occurrence: int
    line: int
    before: str
    after: str
    code: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.operator}\n    - {self.before}\n    + {self.after}"


@dataclass(frozen=True)
class Package:
    """Modules and the tests that are about them. ``own``: tests of one module alone, in place of the package's."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    own: Mapping[str, tuple[str, ...]]

    def tests_of(self, module: str) -> tuple[str, ...]:
        return self.own.get(module, self.tests)


def main() -> int:
    asked = _arguments()
    settings = tomllib.loads(SETTINGS.read_text("utf-8"))
    packages = [package for package in _packages(settings) if not asked.only or package.name in asked.only]
    ignored = {(entry["module"], entry["before"], entry["after"]) for entry in settings.get("same", ())}
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ["PEFT_LAB_EXAMPLES"] = "12"  # of the contract tests; what a change breaks, few break too
    os.environ.setdefault("PEFT_LAB_HOME", str(_home()))
    for name in LOADED:
        __import__(name)
    rates = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = _copy(Path(folder))
        for package in packages:
            found = [each for module in package.modules for each in mutants_of(tree, module)]
            wanted = [each for each in found if (each.module, each.before, each.after) not in ignored]
            chosen = random.Random(f"{asked.seed} {package.name}").sample(
                wanted, min(asked.sample, len(wanted))
            )
            survived = _try_all(tree, package, sorted(chosen, key=lambda each: (each.module, each.line)))
            killed = len(chosen) - len(survived)
            rates.append(
                f"{package.name}: {killed} of {len(chosen)} killed ({killed / max(1, len(chosen)):.0%}); "
                f"{len(wanted):,} possible, {len(found) - len(wanted)} more make no difference"
            )
            print(f"== {rates[-1]}", flush=True)
    print("\n".join(["", f"seed {asked.seed}, at most {asked.sample} a package", *rates]))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="names of packages; all without")
    parser.add_argument("--sample", type=int, default=100, help="mutants of a package, at most")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _packages(settings: Mapping[str, Any]) -> Iterator[Package]:
    for name, said in settings["packages"].items():
        files = [file for pattern in said["modules"] for file in sorted(ROOT.glob(pattern))]
        own = {module: tuple(tests) for module, tests in said.get("own", {}).items()}
        modules = tuple(file.relative_to(ROOT).as_posix() for file in files)
        yield Package(name, modules, tuple(said["tests"]), own)


def _home() -> Path:
    """The lab folder with the real weights; named outright, as the forked processes change their folder."""
    from platformdirs import user_data_path

    return user_data_path("peft-lab", appauthor=False)


def _copy(folder: Path) -> Path:
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


def mutants_of(tree: Path, module: str) -> Iterator[Mutant]:
    """Every change of a module that means something, in order."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (tree / module).read_text("utf-8")
    nodes = list(ast_nodes(get_ast(source)))
    idle = _idle(source)
    lines = source.splitlines()
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        positions = [position for node in nodes for position in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            # A star that unpacks, or that ends the positional arguments, is no operator.
            unpacks = "Binary" in name and lines[start[0] - 1][: start[1]].rstrip()[-1:] in (
                "",
                "(",
                "[",
                "{",
                ",",
                ":",
            )
            if unpacks or any(begin <= start < end for begin, end in idle):
                continue
            code = mutate_code(source, operator, occurrence)
            number = next(
                (
                    at
                    for at, (old, new) in enumerate(zip(lines, code.splitlines(), strict=False))
                    if old != new
                ),
                -1,
            )
            if number >= 0:
                before, after = lines[number].strip(), code.splitlines()[number].strip()
                yield Mutant(module, name, occurrence, number + 1, before, after, code)


Position = tuple[int, int]


def _idle(source: str) -> list[tuple[Position, Position]]:
    """Where a change does nothing to a result: annotations, imports for the type checker, options of dataclasses, and
    whether zip checks what holds anyway."""
    found: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.ClassDef):
            found += node.decorator_list
        elif isinstance(node, ast.keyword) and node.arg in ("strict", "repr"):
            found.append(node.value)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found.append(node)
        elif (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0])[0].isupper()
            and _is_type(node.value)
        ):
            found.append(node.value)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]
        for node in found
        if node is not None
    ]


def _is_type(value: ast.expr) -> bool:
    """Whether it is an alias such as ``int | None``."""
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr) and "None" in ast.unparse(value)


# -- trying ------------------------------------------------------------------------------------------------------


def _try_all(tree: Path, package: Package, mutants: Sequence[Mutant]) -> list[Mutant]:
    """Those that no test noticed. Raises SystemExit when the tests fail on the code as it is."""
    took: dict[tuple[str, ...], float] = {}
    survived = []
    for number, mutant in enumerate(mutants):
        if number and number % 20 == 0:
            print(f"-- {number} of {len(mutants)}: {len(survived)} survived", flush=True)
        tests = package.tests_of(mutant.module)
        if tests not in took:
            start = time.monotonic()
            if not _passes(tree, tests, 1800, keep=True):
                raise SystemExit(
                    f"{package.name}: the tests fail as the code is:\n{(tree / 'output').read_text()}"
                )
            took[tests] = time.monotonic() - start
            print(f"-- {package.name}: {' '.join(tests)} in {took[tests]:.1f} s", flush=True)
        original = (tree / mutant.module).read_text("utf-8")
        (tree / mutant.module).write_text(mutant.code, "utf-8")
        try:
            if _passes(tree, tests, 20 + 5 * took[tests]):
                survived.append(mutant)
                print(f"survived: {mutant}", flush=True)
        finally:
            (tree / mutant.module).write_text(original, "utf-8")
    return survived


def _passes(tree: Path, tests: Iterable[str], seconds: float, keep: bool = False) -> bool:
    """Whether the tests pass in a fork of this process; one that does not end in time has noticed something.

    ``keep``: the compiled tests, for those that follow.
    """
    child = os.fork()
    if child == 0:
        _run(tree, tests, keep)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _run(tree: Path, tests: Iterable[str], keep: bool) -> None:
    """The forked process: pytest in the copy, as if nothing of this project had been imported."""
    status = 3
    try:
        os.setsid()
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


if __name__ == "__main__":
    sys.exit(main())
