"""The examples in docstrings, run: they are documentation that cannot go stale."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import peft_lab

PACKAGE = Path(peft_lab.__file__).parent
#: Every module with an example in it, found by the prompt.
MODULES = tuple(
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in file.read_text("utf-8")
)
FEWEST = 25


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [found for found in doctest.DocTestFinder(exclude_empty=True).find(module) if found.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str) -> None:
    runner = doctest.DocTestRunner()
    report: list[str] = []
    for found in examples(name):
        runner.run(found, out=report.append)
    assert runner.tries, f"{name} has no example"
    assert not runner.failures, "".join(report)


def test_there_are_enough_examples() -> None:
    assert sum(len(examples(name)) for name in MODULES) >= FEWEST
