"""What the task that a run names is called on screen."""

from __future__ import annotations

from peft_lab.training.tasks import all_tasks, own

OWN_FILE = "Your own file"


def task_title(name: str) -> str:
    """A task's title, also that of a learner's file; of one that is not known here, its name, for a page to escape.

    >>> task_title("json")
    'Orders to JSON'
    >>> task_title("own")
    'Your own file'
    """
    titles = {task.name: task.title for task in all_tasks()} | {own.NAME: OWN_FILE}
    return titles.get(name, name)


def each_of(name: str) -> str:
    """What one of a task's rows is called; of a task that is not known here, a row.

    >>> each_of("digits"), each_of("json")
    ('image', 'row')
    """
    return next((task.each for task in all_tasks() if task.name == name), "row")
