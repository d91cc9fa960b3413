"""The examples in docstrings, run: they are documentation that cannot go stale."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "choose.situation", "compare.pareto", "compare.spread", "memory.allocator", "memory.devices", "memory.kernels",
    "methods", "methods.adapters.spec", "methods.bitfit.spec", "methods.full.spec", "methods.ia3.spec",
    "methods.knobs", "methods.lora.insight", "methods.lora.spec", "methods.prefix.spec", "methods.prompt.spec",
    "methods.ptuning.spec", "methods.qlora.spec", "methods.shared.ranks", "models.module_groups",
    "models.module_tree", "models.shapes", "quiz.fourbit", "quiz.parsing", "tasks.orders", "tasks.overlap",
    "training.batches", "training.schedule", "units",
)  # fmt: skip
FEWEST = 25


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(f"peft_lab.{name}")
    return [found for found in doctest.DocTestFinder(exclude_empty=True).find(module) if found.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str) -> None:
    runner = doctest.DocTestRunner()
    report: list[str] = []
    for found in examples(name):
        runner.run(found, out=report.append)
    assert runner.tries, f"peft_lab.{name} has no example"
    assert not runner.failures, "".join(report)


def test_there_are_enough_examples() -> None:
    assert sum(len(examples(name)) for name in MODULES) >= FEWEST
