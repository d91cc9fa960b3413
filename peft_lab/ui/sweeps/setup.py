"""The form of a new sweep: model, task, methods, and one or two knobs with the values to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import streamlit as st
import yaml

from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.core.field import as_text
from peft_lab.core.form import choice, text
from peft_lab.core.units import Source
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model
from peft_lab.runs import waiting
from peft_lab.runs.forecast import predicts
from peft_lab.runs.offer import make_offer
from peft_lab.runs.spec import RunRequest
from peft_lab.studies.sweeps import plan, store
from peft_lab.studies.sweeps.plan import SweepRequest
from peft_lab.studies.sweeps.store import RATE
from peft_lab.ui import state
from peft_lab.ui.compare.setup import CompareForm, StudyControls
from peft_lab.ui.components import figures
from peft_lab.ui.components.rows import listing
from peft_lab.ui.components.waiting import Look, come_back
from peft_lab.ui.method.settings import ask_work, duration_below
from peft_lab.ui.runs.shown import summaries
from peft_lab.ui.runs.study import start_study
from peft_lab.ui.sweeps.pictures import SCOPE

NOTHING = "none"
_WIDE = 100  # letters in a line of code on a wide page
_KINDS = ("int", "float", "bool", "choice")  # of knobs whose values can stand in a list


def knob_titles(methods: Any = None) -> dict[str, str]:
    """Return the titles of what a sweep of these methods can vary, by name; of all methods by default."""
    knobs = [knob for slug in methods or all_methods() for knob in get_method(slug).knobs]
    return {RATE: "Learning rate"} | {knob.name: knob.label for knob in knobs if knob.kind in _KINDS}


@dataclass(frozen=True)
class SweepSetup(CompareForm):
    """The settings of a new sweep: those of a comparison, and what varies."""

    knob: str = choice("r", "Vary", "", knob_titles, noun="knob that a sweep can vary")
    values: str = text("2, 8", "Values", "Separated by commas.")
    second: str = choice(
        RATE, "Also vary", "", lambda: {NOTHING: "Nothing else"} | knob_titles(), noun="knob that a sweep can vary"
    )  # fmt: skip
    second_values: str = text("0.001, 0.003, 0.01", "Values of the second setting", "Separated by commas.")

    @classmethod
    def usual(cls, model: str) -> Self:
        """Return the defaults for a model: a sweep of minutes."""
        usual = super().usual(model)
        return replace(usual, methods=("lora",), steps=30, seeds=2, eval_rows=min(200, usual.eval_rows))

    def rules(self) -> Iterator[BadInput]:
        """Yield an error for a value that no chosen method takes, and for a knob given twice."""
        yield from super().rules()
        if self.knob == self.second:
            yield BadInput(
                "Both fields vary the same setting. Choose another setting, or “Nothing else”.", "second"
            )
        for name, field in self._varied().items():
            try:
                if not self._listed(field):
                    yield BadInput("No value is given. Write one or more values, separated by commas.", field)
                for slug in (slug for slug in self.methods if name in knob_titles([slug])):
                    for value in self._listed(field):
                        plan.read_value(get_method(slug), name, value)
            except BadInput as error:
                yield BadInput(str(error), field)

    def _varied(self) -> dict[str, str]:
        """Return the field that holds a varied knob's values, by the knob's name."""
        return {self.knob: "values"} | ({} if self.second == NOTHING else {self.second: "second_values"})

    def _listed(self, field: str) -> list[str]:
        return [part.strip() for part in getattr(self, field).split(",") if part.strip()]

    def content(self) -> dict[str, Any]:
        """Return the sweep as the content of its file."""
        grid = {
            name: [yaml.safe_load(one) for one in self._listed(field)]
            for name, field in self._varied().items()
        }
        return {
            "model": self.model, "task": self.task, "methods": list(self.methods), "steps": self.steps,
            "batch": self.batch, "eval_rows": self.eval_rows, "seeds": list(range(self.seeds)), "grid": grid,
        }  # fmt: skip

    def request(self) -> SweepRequest:
        """Return the runs. Raises PeftLabError for invalid settings, a knob's at the control of its values."""
        self.check()
        try:
            return plan.sweep_of(self.content())
        except BadInput as error:
            raise BadInput(str(error), self._varied().get(error.field or "", error.field)) from error


def setup() -> StudyControls[SweepSetup]:
    """Return the form's controls, not yet drawn. Values are remembered per knob."""

    def knob(name: str) -> str:
        return str(state.remembered(SCOPE, name, SweepSetup.field(name).default))

    def keys(name: str) -> tuple[str, ...]:
        of = {"values": "knob", "second_values": "second"}.get(name)
        return (knob(of),) if of else ()

    def adapted(usual: SweepSetup) -> SweepSetup:
        return replace(usual, values=_first_values(knob("knob")), second_values=_first_values(knob("second")))

    return StudyControls(SweepSetup, SCOPE, keys, adapted)


def _first_values(name: str) -> str:
    """Return values to begin with: of an example, or a knob's default."""
    examples = {SweepSetup.knob: SweepSetup.values, SweepSetup.second: SweepSetup.second_values}
    knobs = {knob.name: knob for slug in all_methods() for knob in get_method(slug).knobs}
    return examples.get(name) or (as_text(knobs[name].default) if name in knobs else "")


def new_sweep(controls: StudyControls[SweepSetup]) -> None:
    """Draw the form, how many runs it makes and how long they take, and the button that starts them."""
    controls.draw_all()
    titles = knob_titles(controls.value("methods"))
    cells = st.columns(4)
    controls.draw("knob", cells[0], options=titles)
    controls.draw("values", cells[1])
    controls.draw("second", cells[2], options={NOTHING: "Nothing else"} | titles)
    if controls.value("second") != NOTHING:
        controls.draw("second_values", cells[3])
    wanted = controls.planned(lambda: controls.form().request())
    if wanted is None:
        return
    steps = wanted.specs[0].steps
    open_ = [trial.spec for trial in store.trials(wanted.specs) if not trial.done]
    runs, done = len(wanted.specs), len(wanted.specs) - len(open_)
    right = start_study(
        SCOPE, "Start the sweep", runs, steps, done, lambda: store.keep(wanted.specs, wanted.early)
    )
    if open_ and predicts(get_model(open_[0].model).kind, open_[0].task):
        with right:
            _duration(RunRequest.from_dict(open_[0].to_dict()), len(open_))
    with st.expander("The same sweep from the command line"):
        st.markdown(f"Save this as `{plan.FILE_NAME}`:")
        listing(yaml.safe_dump(controls.form().content(), sort_keys=False).strip(), "sweep-file", _WIDE)
        st.markdown("The command (if it is interrupted, run it again; finished runs are skipped):")
        listing(plan.COMMAND, "sweep-command", _WIDE)


def _duration(request: RunRequest, runs: int) -> None:
    """Draw how long the sweep takes if each of its runs takes as long as the first."""
    work, measuring = ask_work(request), waiting.calibrating_under_way()
    come_back(work, Look(open=measuring) if measuring is not None and not measuring.done() else Look())
    offer = make_offer(request, work.answer, summaries())
    if offer.forecast is not None:
        seconds = units.roughly(runs * offer.forecast.seconds)
        st.markdown(
            f"About {seconds}, if each run takes as long as the first. {figures.badge(Source.SIMULATED)}"
        )
    duration_below(SCOPE, offer)
