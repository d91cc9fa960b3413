"""The setup of a comparison: model, task, methods, steps and seeds, in the form and in the page's URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import streamlit as st

from peft_lab.core import limits
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.form import Form, again, choice, names, whole
from peft_lab.methods import all_methods
from peft_lab.methods.base import STEPS
from peft_lab.models.catalogue import catalogue
from peft_lab.runs.spec import BATCH, RunRequest, usual_eval_rows
from peft_lab.studies.compare.store import SEEDS, ComparisonPlan, ComparisonRequest, make_plan
from peft_lab.training.tasks import all_tasks, get_task
from peft_lab.ui import state
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import error_line

SCOPE = "compare"
_NUMBERS = ("steps", "seeds", "batch", "eval_rows")


def model_titles() -> dict[str, str]:
    """Return the titles of the models that can be trained here, by name."""
    return {name: entry.title for name, entry in catalogue().items() if entry.live}


def task_titles(model: str = "") -> dict[str, str]:
    """Return the titles of a model's tasks by name; of all tasks without a model."""
    kind = catalogue()[model].kind if model else None
    return {task.name: task.title for task in all_tasks() if kind is None or kind in task.model_kinds}


def method_titles() -> dict[str, str]:
    """Return the methods' titles by slug."""
    return {slug: method.title for slug, method in all_methods().items()}


@dataclass(frozen=True)
class CompareForm(Form):
    """The settings of a comparison."""

    model: str = choice("", "Model", "", model_titles, noun="model that can be trained here")
    task: str = choice("", "Task", "", task_titles, noun="task for this model")
    methods: tuple[str, ...] = names(
        (), "Methods", "If a method does not work with the model, its row gives the reason.", method_titles
    )
    steps: int = again(RunRequest, "steps", STEPS, empty="")
    seeds: int = whole(
        len(SEEDS), "Seeds",
        "Number of runs per method, each with its own seed. One seed cannot show how much seeds differ.",
        least=1, most=limits.SEEDS,
    )  # fmt: skip
    batch: int = again(RunRequest, "batch", BATCH["classification"], empty="")
    eval_rows: int = again(RunRequest, "eval_rows", 1000, empty="")

    @classmethod
    def usual(cls, model: str) -> Self:
        """Return the defaults for a model."""
        task = next(iter(task_titles(model)))
        kind = get_task(task).kind
        rows = usual_eval_rows(kind, catalogue()[model].kind, compared=True)
        return cls(model, task, tuple(all_methods()), batch=BATCH[kind], eval_rows=rows)

    def rules(self) -> Iterator[BadInput]:
        """Yield an error if no method is chosen."""
        if not self.methods:
            yield BadInput("No method is chosen. Choose at least one.", "methods")

    def plan(self) -> ComparisonPlan:
        """Return the plan of the runs. Raises PeftLabError for invalid settings."""
        self.check()
        return make_plan(
            ComparisonRequest(
                self.model,
                self.task,
                self.methods,
                self.steps,
                self.batch,
                tuple(range(self.seeds)),
                self.eval_rows,
            )
        )


F = TypeVar("F", bound=CompareForm)
Plan = TypeVar("Plan")


class StudyControls(Controls[F]):
    """The controls of a study: tasks are remembered per model and sizes per kind of model, as their defaults differ.

    Args:
        further: keys of a form's other fields. adapted: changes the model's defaults.
    """

    def __init__(
        self,
        form: type[F],
        scope: str,
        further: Callable[[str], tuple[str, ...]] = lambda name: (),
        adapted: Callable[[F], F] = lambda usual: usual,
    ) -> None:
        def model() -> str:
            return str(state.remembered(scope, "model", next(iter(model_titles()))))

        def keys(name: str) -> tuple[str, ...]:
            if name == "task":
                return (model(),)
            return (catalogue()[model()].kind,) if name in ("batch", "eval_rows") else further(name)

        super().__init__(form, scope, lambda: adapted(form.usual(model())), keys)

    def readers(self, **own: Callable[[str], Any]) -> dict[str, Callable[[str], None]]:
        """Return a reader of each field from a URL; the model first, as the others depend on it."""

        def read_task(text: str) -> str:
            known = task_titles(self.value("model"))
            return str(CompareForm.field("task").among(known).parse(text))

        return super().readers(task=read_task, **own)

    def address(self, leave_out: Iterable[str] = ()) -> dict[str, tuple[Any, Any]]:
        """Return the URL's parameters; defaults are those of the model, which is stated."""
        return super().address(leave_out) | {"model": (self.value("model"), next(iter(model_titles())))}

    def misread(self) -> bool:
        """Return whether the URL ever had an invalid value for the form, which then stays open while it is mended."""
        wrong = [state.address_problem(self.scope, field.key) for field in self._form.fields().values()]
        state.remember(self.scope, "misread", state.remembered(self.scope, "misread", False) or any(wrong))
        return bool(state.remembered(self.scope, "misread", False))

    def draw_all(self) -> None:
        """Draw the controls of model, task, methods, steps and seeds."""
        left, right = st.columns(2)
        model = self.draw("model", left)
        task = self.draw("task", right, options=task_titles(model))
        self.draw("methods")
        for cell, name in zip(st.columns(len(_NUMBERS)), _NUMBERS, strict=True):
            self.draw(name, cell, noun=get_task(task).each)

    def planned(self, make: Callable[[], Plan]) -> Plan | None:
        """Return the plan of a form; ``None`` for an invalid setting, with the error drawn at its control."""
        try:
            return make()
        except PeftLabError as error:
            if isinstance(error, BadInput):
                self.show([error])
            else:
                error_line(str(error))
            return None
