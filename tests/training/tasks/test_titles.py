"""What models and tasks are called on screen."""

from __future__ import annotations

from peft_lab.models.catalogue import catalogue, model_title
from peft_lab.training.tasks import all_tasks, own
from peft_lab.training.tasks.own import OWN_FILE, task_title


def test_every_task_and_model_has_its_own_title_and_an_unknown_one_its_name() -> None:
    assert [task_title(task.name) for task in all_tasks()] == [task.title for task in all_tasks()]
    assert len({task_title(task.name) for task in all_tasks()} | {OWN_FILE}) == len(all_tasks()) + 1
    assert task_title(own.NAME) == OWN_FILE
    assert [model_title(name) for name in catalogue()] == [entry.title for entry in catalogue().values()]
    assert (task_title("gone"), model_title("/models/mine")) == ("gone", "/models/mine")
    assert (task_title(""), model_title("")) == ("", "")
