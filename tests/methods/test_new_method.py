"""A method is a folder and a page: one is put into a copy of the package, and everything works with it.

The copy is run by processes of its own, as their children (counting, PEFT's configs) import the package anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.waits import SECONDS

ROOT = Path(__file__).parents[2]
SPEC = '''"""Output scale: one factor for each output of the attention's output map, by way of PEFT's IA3Config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peft_lab.methods.base import (Formula, Paper, Part, Problem, Term)
from peft_lab.models.heads import TaskType
from peft_lab.core.field import Values
from peft_lab.methods.base import Knob
from peft_lab.methods.shared.peft_backed import PeftMethod
from peft_lab.methods.shared.targets import matched, stored_transposed
from peft_lab.models.shapes import ModelShape


class OutputScale(PeftMethod):
    slug, title, order = "outscale", "Output scale", 95
    summary = "Stretch or shrink what attention puts out."
    paper = Paper("Liu et al.", 2022, "Few-Shot Parameter-Efficient Fine-Tuning", "2205.05638", "section 3.3")
    knobs = (Knob("init_ia3_weights", "Start at one", "bool", True, "Or at random.", usual="on", paper="on"),)
    learning_rates = {"encoder": 3e-2, "causal-lm": 1e-2, "seq2seq": 1e-2}

    def _names(self, shape: ModelShape) -> tuple[str, ...]:
        return (shape.target_name(shape.block["o"]),)

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        if "o" not in shape.block:
            yield Problem("model", f"{shape.title} has no output map by a name that is known.")

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        groups = matched(shape, self._names(shape))
        terms = tuple(Term(g.path, str(g.out_features), g.out_features, g.count) for g in groups)
        total = sum(term.total for term in terms)
        return Formula(r"\\\\sum d_{out}", terms, added=total, stored=total)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        groups = matched(shape, self._names(shape)) if "o" in shape.block else ()
        return tuple(Part("gate", g.path, "l_o", {"size": g.out_features, "on_input": 0}) for g in groups)

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> Any:
        from peft import IA3Config

        names, turned = self._names(shape), stored_transposed(matched(shape, self._names(shape)))
        return IA3Config(task_type=task_type, target_modules=list(names), feedforward_modules=[],
                         fan_in_fan_out=turned, init_ia3_weights=values["init_ia3_weights"])


METHOD = OutputScale()
'''.replace("\\\\\\\\", "\\")
PAGE = '''"""Output scale: the words of its page."""

from peft_lab.ui.method.page import Words, method_page

method_page("outscale", first_model="minilm-l6", words=Words(idea="One factor each.", formula="y = l x", differs="-"))
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with the method in it, beside its pages and the tests."""
    folder = tmp_path_factory.mktemp("package")
    for name in ("peft_lab", "pages", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    method = folder / "peft_lab/methods/outscale"
    method.mkdir()
    (method / "__init__.py").touch()
    (method / "spec.py").write_text(SPEC, "utf-8")
    (folder / "pages/outscale.py").write_text(PAGE, "utf-8")
    return folder


def run(copy: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(copy)},
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def found(copy: Path, code: str) -> Any:
    return json.loads(run(copy, "-c", f"import json\n{code}").splitlines()[-1])


def test_a_method_is_short() -> None:
    assert len((SPEC + PAGE).splitlines()) < 60


def test_registry_pages_compare_and_quiz_know_it(copy: Path) -> None:
    """Without torch: what is asked of the registry alone."""
    seen = found(
        copy,
        """
from peft_lab.studies.compare.store import ComparisonRequest, make_plan
from peft_lab.methods import all_methods
from peft_lab.interview.bank import all_questions
from peft_lab.interview.question import topics
from peft_lab.ui import pages
plan = make_plan(ComparisonRequest(model="minilm-l6", task="sentiment", methods=("lora", "outscale"), seeds=(1,)))
question = all_questions()["outscale-defaults"]
print(json.dumps({
    "title": all_methods()["outscale"].title,
    "pages": [name for name, _ in pages.sections()["Methods"]],
    "file": (pages.folder() / "outscale.py").is_file(),
    "cells": [cell.method for cell in plan.cells],
    "topic": topics()["outscale"],
    "answer": question.compute("minilm-l6").value,
}))""",
    )
    assert seen == {
        "title": "Output scale",
        "pages": [
            "lora",
            "qlora",
            "prefix",
            "prompt",
            "ptuning",
            "adapters",
            "ia3",
            "bitfit",
            "outscale",
            "atlas",
        ],
        "file": True,
        "cells": ["lora", "outscale"],
        "topic": "Output scale",
        "answer": 6 * 384,  # MiniLM has six layers of that width
    }


@pytest.mark.slow
def test_the_contract_holds_for_it(copy: Path) -> None:
    """Count, formula, training step, saving and loading, on every tiny model: the contract's own tests, in the copy."""
    told = run(
        copy,
        "-m",
        "pytest",
        "tests/methods/test_contract.py",
        "-q",
        "-k",
        "outscale",
        "-p",
        "no:cacheprovider",
    )
    assert " passed" in told
