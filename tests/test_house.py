"""The order of the house: imports run in no circle, between files or between rooms, and point down."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from peft_lab.methods import folders

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "peft_lab"
#: The rooms from the ground up: a room imports from those before it. What may go up says why.
ROOMS = (
    "scratch", "core", "models", "classroom", "training", "methods", "engine", "drawing", "runs",
    "takeaway", "atlas", "studies", "advise", "interview", "cli", "ui",
)  # fmt: skip
UPWARDS = {("runs", "takeaway"): "a run that ends writes its model card and licences"}
LOOSE = {"__init__", "__main__", "api"}


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def files() -> dict[str, Path]:
    return {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """Return the room of a module: ``peft_lab.methods.lora.spec`` is in ``methods``."""
    return module.split(".")[1] if "." in module else ""


def imported(tree: ast.AST, module: str, package: bool) -> Iterator[tuple[str, int]]:
    """What is imported, in functions too, and in which line. What only a type checker sees is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imported(ast.Module(node.orelse, []), module, package)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level + package or None] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base, node.lineno
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        else:
            yield from imported(node, module, package)


@cache
def graph() -> dict[str, dict[str, int]]:
    """By module, the modules of this package that it imports, each with a line. ``from a import b`` counts as ``a.b``
    where that is a module, and as ``a`` where it is not."""
    found: dict[str, dict[str, int]] = {}
    for module, file in files().items():
        tree = ast.parse(file.read_text("utf-8"))
        names = dict(imported(tree, module, file.name == "__init__.py"))
        inner = {name: line for name, line in names.items() if name in files() and name != module}
        below = {name.rpartition(".")[0] for name in inner}
        found[module] = {
            name: line for name, line in inner.items() if name not in below or _needed(tree, name)
        }
    return found


def _needed(tree: ast.AST, package: str) -> bool:
    """Whether something of a package itself is imported, not only modules of it."""
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == package
        and any(f"{package}.{alias.name}" not in files() for alias in node.names)
        for node in ast.walk(tree)
    )


def no_circle(edges: Mapping[str, set[str]], where: Mapping[tuple[str, str], str]) -> None:
    try:
        tuple(TopologicalSorter(edges).static_order())
    except CycleError as error:
        round_trip = error.args[1][::-1]  # graphlib names what comes before first
        steps = [f"{a} imports {b} ({where[a, b]})" for a, b in pairwise(round_trip)]
        pytest.fail("imports in a circle: " + "; ".join(steps))


def test_imports_between_files_run_in_no_circle() -> None:
    places = {(a, b): f"line {line}" for a, names in graph().items() for b, line in names.items()}
    no_circle({module: set(names) for module, names in graph().items()}, places)


def test_rooms_import_from_those_below_them() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == set(ROOMS)
    up: dict[tuple[str, str], str] = {}
    for module, names in graph().items():
        for name, line in names.items():
            here, there = room(module), room(name)
            if here in ROOMS and there in ROOMS and ROOMS.index(there) > ROOMS.index(here):
                up.setdefault((here, there), f"{module} imports {name} (line {line})")
    assert graph()["peft_lab.ui.method.page"]  # it reads something
    assert set(up) == set(UPWARDS), up


def test_nothing_imports_the_pages() -> None:
    for module, names in graph().items():
        if room(module) != "ui":
            wrong = [name for name in names if room(name) == "ui"]
            assert not wrong, f"{module} imports {wrong[0]}: the library does not know its pages"


def test_nothing_imports_what_is_written_from_scratch() -> None:
    """Its files are for reading and import torch as they are imported. Being the lowest room they import nothing of
    ours, and not each other: each is whole."""
    mine = {module: names for module, names in graph().items() if room(module) == "scratch"}
    assert "peft_lab.scratch.lora" in mine
    assert not any(mine.values())
    wrong = [module for module, names in graph().items() if any(room(name) == "scratch" for name in names)]
    assert not wrong


def test_no_method_is_imported_by_name_from_below() -> None:
    """What all methods stand on knows them from the registry only."""
    own = tuple(f"peft_lab.methods.{slug}." for slug in folders())
    assert "peft_lab.methods.lora." in own
    for module, names in graph().items():
        if room(module) in ROOMS[: ROOMS.index("runs") + 1] and not module.startswith(own):
            wrong = [name for name in names if name.startswith(own)]
            assert not wrong, f"{module} imports {wrong[0]}"


def test_loose_modules_are_few() -> None:
    assert {file.stem for file in PACKAGE.glob("*.py")} <= LOOSE


def test_a_circle_would_be_seen() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a"}}
    with pytest.raises(pytest.fail.Exception, match=r"imports .* \(there\)"):
        no_circle(edges, dict.fromkeys([("a", "b"), ("b", "c"), ("c", "a")], "there"))
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import left.out\n"
    source = f"{guarded}def f():\n    from . import near"
    assert [name for name, _ in imported(ast.parse(source), "peft_lab.runs.view", package=False)] == [
        "typing", "typing.TYPE_CHECKING", "peft_lab.runs", "peft_lab.runs.near",
    ]  # fmt: skip
