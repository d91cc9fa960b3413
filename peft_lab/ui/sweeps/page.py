"""Sweeps: the form of a new one, progress, the best setting with its interval, pictures, and every run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlencode

import streamlit as st
import yaml

from peft_lab.core import units
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.field import as_text
from peft_lab.core.form import choice, text
from peft_lab.core.units import Source, written_figure
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model, model_title
from peft_lab.runs import waiting
from peft_lab.runs.forecast import predicts
from peft_lab.runs.offer import make_offer
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.studies.landscape import METRIC
from peft_lab.studies.shipped_sweep import SURE
from peft_lab.studies.sweeps import picture, plan, store
from peft_lab.studies.sweeps.plan import SweepRequest
from peft_lab.studies.sweeps.store import RATE, KeptSweep, SweepSetting, Trial
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import pages, state
from peft_lab.ui.compare.setup import CompareForm, StudyControls
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import address_line, errors_boxed
from peft_lab.ui.components.knobs import apart
from peft_lab.ui.components.rows import listing
from peft_lab.ui.components.waiting import Look, come_back
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.settings import ask_work, duration_below
from peft_lab.ui.runs.shown import short_id, summaries
from peft_lab.ui.runs.study import start_study, watch_study
from peft_lab.ui.sweeps import pictures
from peft_lab.ui.sweeps.pictures import SCOPE, SWEEP, written_value

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
    work, measuring = ask_work(request), waiting.calibrating_under_way()
    come_back(work, Look(open=measuring) if measuring is not None and not measuring.done() else Look())
    offer = make_offer(request, work.answer, summaries())
    if offer.forecast is not None:
        seconds = units.roughly(runs * offer.forecast.seconds)
        st.markdown(
            f"About {seconds}, if each run takes as long as the first. {figures.badge(Source.SIMULATED)}"
        )
    duration_below(SCOPE, offer)


def best_section(settings: Sequence[SweepSetting], figure: str, spec: RunSpec) -> None:
    chosen = store.best_setting(settings, figure)
    if chosen is None:
        return
    scores = chosen.found(figure)
    mean, title = sum(scores) / len(scores), pictures.setting_titles(spec)[figure]
    compared = len(store.comparable(settings, figure))
    interval = store.interval(scores)
    spread = ", with no interval: one seed cannot show how much seeds differ"
    if interval is not None:
        low, high = (max(0.0, interval[0]), min(1.0, interval[1])) if figure == METRIC else interval
        spread = f", interval {written_value(low, figure)} to {written_value(high, figure)}"
    with st.container(border=True):
        so_far = " so far" if _open(settings) else ""
        st.markdown(f"##### Best{so_far}: {plain(picture.told(chosen.values))}")
        st.markdown(f"{plain(title)}: **{written_value(mean, figure)}**{spread} {figures.badge('measured')}")
        links = [f"[seed {trial.spec.seed}]({address(trial)})" for trial in chosen.trials if trial.done]
        how = []
        if len(scores) > 1:
            how.append(
                f"The mean of {units.in_words(len(scores))} seeds, with a {SURE:.0%} interval (Student's t; for "
                "shares, the interval is cut at 0 and 1)."
            )
        if compared > 1:
            how.append(
                f"This setting is the best of {compared:,} settings with the same number of seeds. The best of many "
                "is partly luck, so expect a somewhat worse score with new seeds."
            )
        st.markdown(f":small[{' '.join(how)}]")
        st.markdown(f"Open its runs: {', '.join(links)}")


def address(trial: store.Trial) -> str:
    """Return the URL of a run on its method's page."""
    return f"{trial.spec.method}?{urlencode({'run': trial.run, 'tab': 'train'})}"


def _open(settings: Sequence[SweepSetting]) -> bool:
    return any(trial.under_way or trial.status == store.TO_COME for each in settings for trial in each.trials)


MOST = 200  # rows: more of them nobody reads, and a browser draws them slowly


def table_section(
    found: Sequence[Trial], names: Sequence[str], measured: Sequence[str], spec: RunSpec
) -> None:
    st.markdown(f"### Runs {figures.badge('measured')}")
    order = list(found)
    if measured:  # the best first, and runs without a result last
        worse, sign = float("inf"), -1 if measured[0] == METRIC else 1
        scored = {id(trial): trial.figure(measured[0]) for trial in found}
        order.sort(key=lambda trial: worse if (value := scored[id(trial)]) is None else sign * value)
    titles = pictures.setting_titles(spec)
    # What a run scored comes first: a phone shows the first columns, and the others by scrolling.
    columns = ["Run", *(titles[name].partition(" (")[0] for name in measured)]
    columns += [*(picture.title(name) for name in names), "Seed", "Status", "Steps", "Time"]
    numeric = [*range(1, len(measured) + 1), len(columns) - 2, len(columns) - 1]
    rows = [_cells(trial, names, measured) for trial in order[:MOST]]
    links = [address(trial) if trial.run else "" for trial in order[:MOST]]
    figures.table(columns, rows, numeric, links=links)
    if len(order) > MOST:
        st.markdown(f"The best {MOST:,} of {len(order):,} runs. To list all, run the command with `--json`.")


def _cells(trial: Trial, names: Sequence[str], measured: Sequence[str]) -> list[str]:
    scores = [(trial.figure(name), name) for name in measured]
    values = [store.value_of(trial.spec, name) for name in names]
    return [
        short_id(trial.run).replace("-", "\N{NON-BREAKING HYPHEN}") or "–",
        *("–" if score is None else written_value(score, name) for score, name in scores),
        *("–" if value is None else figures.whole(written_figure(value)) for value in values),
        str(trial.spec.seed),
        trial.status,
        f"{trial.step:,}" if trial.run else "–",
        "–" if not trial.seconds else units.seconds(trial.seconds),
    ]


def sweeps_page() -> None:
    pages.open_page()
    st.title("Sweeps")
    st.markdown(
        "A sweep trains the model with many settings, and with several seeds for each setting. The settings form a "
        "grid or are drawn at random. The runs of a sweep also appear on the Runs page."
    )
    form = setup()
    choices = pictures.sweep_controls().readers(
        held=pictures.read_held
    )  # the sweep first: the others depend on it
    state.read_address(SCOPE, choices | form.readers())
    kept = store.sweeps()
    with errors_boxed():
        with st.expander("New sweep", expanded=not kept or form.misread(), icon=":material/add:"):
            new_sweep(form)
        address = form.address()
        if kept:
            shown = _choose(kept)
            address |= {SWEEP: (shown.id, kept[0].id)} | _show(shown)
        else:
            address_line(SCOPE, SWEEP)
            st.info("No sweeps yet. Choose settings above and press *Start the sweep*.")
        state.write_address(address)


def _choose(kept: list[KeptSweep]) -> KeptSweep:
    titles = apart({one.id: _title(one) for one in kept})
    controls = pictures.sweep_controls(lambda: pictures.SweepForm(kept[0].id))
    shown: str = controls.draw(SWEEP, options=titles)
    controls.remember(SWEEP, shown)  # also when a newer one comes first
    return store.get(shown)


def _title(one: KeptSweep) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created))
    try:
        specs = one.specs
    except PeftLabError as error:
        return f"{one.id}: {error}"
    model, task = model_title(specs[0].model), task_title(specs[0].task)
    what = ", ".join(pictures.named_sweep(name) for name in store.varied(specs)) or "seeds only"
    return f"{model} · {task} · {len(specs):,} runs, varying {what} · {began}"


def _show(sweep: KeptSweep) -> pictures.SweepAddress:
    found = watch_study(sweep)
    figures = store.measured_figure(found)
    names = store.varied(sweep.specs)
    settings = store.settings_of(found, names)
    address: pictures.SweepAddress = {}
    if figures:
        best_section(settings, figures[0], sweep.specs[0])
        address = pictures.landscape_section(sweep, settings, names, figures)
    table_section(found, names, figures, sweep.specs[0])
    return address
