"""List the tasks a model can be fine-tuned on. A learner's own file is :mod:`peft_lab.training.tasks.own`."""

from __future__ import annotations

from peft_lab.core.errors import named
from peft_lab.training.tasks import made, orders, tags
from peft_lab.training.tasks.base import Kind, Row, Splits, Task

__all__ = ["Kind", "Row", "Splits", "Task", "all_tasks", "get_task"]

_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *made.RATED_TASKS,
        orders.TASK,
        made.STYLE_TASK,
        orders.FIELDS_TASK,
        tags.TASK,
        made.DIGITS_TASK,
    )
}


def all_tasks() -> tuple[Task, ...]:
    """Return every task that comes with the app, in display order."""
    return tuple(_TASKS.values())


def get_task(name: str) -> Task:
    """Return the task of that name. Raises UnknownName (there is none; the message suggests the nearest)."""
    return named("task", name, _TASKS, "task")
