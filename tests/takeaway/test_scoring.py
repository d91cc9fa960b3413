"""The scoring that is written into files agrees with that of the tasks, answer by answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from peft_lab.takeaway.generator import fill
from peft_lab.training.tasks import get_task, made, orders
from peft_lab.training.tasks.base import Row

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
