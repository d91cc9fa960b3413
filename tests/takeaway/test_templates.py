"""Templates name what exists, and what they render is laid out as a file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import cache
from types import CodeType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import nodes

from peft_lab.models.assets import onnx_vision, onnx_weights
from peft_lab.takeaway import generator
from peft_lab.takeaway.generator import as_notebook, as_script, fill, part
from peft_lab.training.tasks import get_task, made, orders
from peft_lab.training.tasks.base import Row
from tests.test_house import ROOMS

NAMES = sorted(path.name for path in generator.TEMPLATES.glob("*.j2"))
TEXT = '''\
"""A file

About "it".
"""

# %% First
# Why it is
# done.
import torch
from b import y, x

one = 1

# %% Second [folded]
# Another.
two = 2
from a import z
import a

def f():
    import json
'''


def named(template: str) -> set[str]:
    """Return the paths of this package's parts that a template prints."""
    tree = generator._templates().parse((generator.TEMPLATES / template).read_text("utf-8"))
    return {
        given.value
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name in ("part", "printed", "constants")
        for given in call.args
        if isinstance(given, nodes.Const)
    }


@pytest.mark.parametrize("template", NAMES)
def test_what_a_template_prints_exists_in_a_room_below(template: str) -> None:
    below = ROOMS[: ROOMS.index("takeaway") + 1]
    for path in named(template):
        part(path)
        assert path.partition(".")[0] in below, path


def modules_used(printed: object) -> set[str]:
    """Return the package's modules that a printed function or class names: there is none where the text runs."""
    functions = [printed, *vars(printed).values()] if inspect.isclass(printed) else [printed]
    codes = [inspect.unwrap(one).__code__ for one in functions if inspect.isfunction(one)]
    names = inspect.getmodule(printed).__dict__ if codes else {}
    found = set()
    while codes:
        code = codes.pop()
        codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
        found |= {name for name in code.co_names if isinstance(names.get(name), ModuleType)}
    return {name for name in found if names[name].__name__.startswith("peft_lab")}


@pytest.mark.parametrize("template", NAMES)
def test_what_a_template_prints_names_no_module_of_the_package(template: str) -> None:
    assert {path: used for path in named(template) if (used := modules_used(part(path)))} == {}


@pytest.mark.parametrize("converter", [onnx_vision, onnx_weights])
def test_what_converts_fetched_weights_names_no_module_of_the_package(converter: ModuleType) -> None:
    own = [one for one in vars(converter).values() if inspect.isfunction(one) and one.__name__ != "main"]
    assert len(own) >= 2 and {one.__name__: used for one in own if (used := modules_used(one))} == {}


def test_the_plans_script_prints_the_labs_own_step() -> None:
    assert {"training.step.train_step", "takeaway.ranks.update_loss"} <= named("plan.py.j2")


def test_a_script_has_its_imports_at_the_top_and_its_rows_at_the_end() -> None:
    text = as_script(TEXT, [Row("a\nb", "c")])
    head, first, second, rows = text.split("\n\n\n")[0], *text.split("# -- ")[1:], text.splitlines()[-1]
    assert head.startswith('"""A file\n\nAbout \\"it\\".\n"""\n\n')
    assert head.endswith("\n\nimport a\nimport torch\nfrom a import z\nfrom b import x, y")
    assert first.startswith("First ---") and "\n# Why it is done.\n\none = 1\n" in first
    assert "\n# Another.\n\ntwo = 2\ndef f():\n    import json\n" in second
    assert rows == '#| ["a\\nb", "c"]'
    assert all(len(line) <= generator.WIDTH for line in text.splitlines())


def test_a_notebook_has_the_same_cells() -> None:
    cells = json.loads(as_notebook(TEXT, "run"))["cells"]
    assert [cell["id"] for cell in cells] == ["about", "imports", "text-1", "code-1", "text-2", "code-2"]
    assert "".join(cells[2]["source"]) == "## First\n\nWhy it is done."
    assert "".join(cells[3]["source"]) == "one = 1"
    assert [cell["metadata"] for cell in cells[3::2]] == [{}, {"jupyter": {"source_hidden": True}}]


TARGET = get_task("json").load().test[0].target


@cache
def written(judge: str) -> Callable[[str, str], bool]:
    names: dict[str, Any] = {}
    exec(fill(f"right_{judge}.py.j2"), names)
    return names["right"]


KEYS = st.sampled_from([*orders.FIELDS, "other"])
LEAVES = st.one_of(
    st.sampled_from(list(json.loads(TARGET).values())),
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=5),
)
NEAR = st.sampled_from([TARGET, TARGET[:-1], TARGET.replace("}", ', "name": "Al"}')])
ANSWERS = st.one_of(
    st.text(alphabet='{}[]":, ab1', max_size=30),
    st.dictionaries(KEYS, LEAVES).map(json.dumps),
    st.tuples(st.text(max_size=4), NEAR, st.text(max_size=4)).map("".join),
    st.permutations(list(json.loads(TARGET).items())).map(dict).map(json.dumps),
)  # fmt: skip


@given(ANSWERS)
def test_json(answer: str) -> None:
    wanted = get_task("json").score([answer], [Row("", TARGET)])["exact_match"]
    assert written("json")(answer, TARGET) == (wanted == 1.0)


@given(
    st.lists(st.sampled_from([*made.OPENINGS, *made.CLOSINGS, " ", "\n", "rope"]), max_size=4).map("".join)
)
def test_style(answer: str) -> None:
    wanted = get_task("style").score([answer], [Row("", "")])["marker_rate"]
    assert written("style")(answer, "") == (wanted == 1.0)


@given(st.text(alphabet="a b\n", max_size=6), st.text(alphabet="a b\n", max_size=6))
def test_own(answer: str, target: str) -> None:
    assert written("own")(answer, target) == (answer.split() == target.split())
