"""What holds for every task that comes with the app."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.training.tasks import Task, all_tasks, get_task
from peft_lab.training.tasks.base import Row, hold_out, in_fair_order, same_text
from peft_lab.training.tasks.tags import tags_in

EVERY = [
    pytest.param(task, id=task.name, marks=[pytest.mark.weights] * bool(task.asset)) for task in all_tasks()
]


def test_rows_do_not_depend_on_the_process() -> None:
    """Hash randomisation, sets and caches must not reach the split."""
    code = (
        "from peft_lab.training.tasks import get_task; from hashlib import sha256;"
        "print(sha256(repr([get_task(n).load() for n in ('json', 'style')]).encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("task", EVERY)
def test_rows_are_usable_split_once_and_scored_as_shares(task: Task) -> None:
    splits, described = (
        task.load(),
        (task.title, task.metric_help, task.description, task.source, task.license),
    )
    assert task.load() is splits and get_task(task.name) is task and all(text.strip() for text in described)
    train, test = ({same_text(row.text) for row in part} for part in (splits.train, splits.test))
    assert train and test and not train & test and task.rows() == len(splits.train) + len(splits.test)
    assert not set(task.samples) & {row.text for row in splits.test}
    assert bool(task.labels) == (not task.writes) == (task.kind in ("classification", "tagging"))
    for row in (*splits.train, *splits.test):
        assert row.text.strip() and row.target.strip()
        assert not task.labels or set(tags_in(row.target) if task.per_token else [row.target]) <= set(
            task.labels
        )
    rows = splits.test
    assert task.score([row.target for row in rows], rows)[task.metric] == 1.0
    nonsense = task.score(["I am happy to help!"] * len(rows), rows)
    assert nonsense[task.metric] == 0.0 and all(0 <= value <= 1 for value in nonsense.values())
    with pytest.raises(ValueError, match="predictions"):
        task.score(["a"], rows[:2])


ROWS = st.lists(st.builds(Row, st.text(alphabet="ab AB!.", min_size=1), st.sampled_from("xy")), max_size=40)


@given(ROWS, st.integers(0, 20), st.randoms(use_true_random=False))
def test_split_ignores_the_order_of_the_file(rows: list[Row], texts: int, rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    assert hold_out(rows, texts) == hold_out(shuffled, texts)


@given(ROWS, st.integers(0, 20))
def test_repeated_texts_stay_together_and_nothing_is_lost(rows: list[Row], texts: int) -> None:
    splits = hold_out(rows, texts)
    train, test = ({same_text(row.text) for row in part} for part in (splits.train, splits.test))
    assert not train & test
    assert len(test) == min(texts, len(train | test))
    assert in_fair_order((*splits.train, *splits.test)) == in_fair_order(rows)
