"""Sweeps: progress, the best setting with its interval, the varied settings as pictures, and every run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlencode

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.units import written_figure
from peft_lab.models.catalogue import model_title
from peft_lab.runs.spec import RunSpec
from peft_lab.studies.landscape import METRIC
from peft_lab.studies.shipped_sweep import SURE
from peft_lab.studies.sweeps import picture, store
from peft_lab.studies.sweeps.store import KeptSweep, SweepSetting, Trial
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import address_line, errors_boxed
from peft_lab.ui.components.knobs import apart
from peft_lab.ui.foreign import plain
from peft_lab.ui.runs.shown import short_id
from peft_lab.ui.runs.study import watch_study
from peft_lab.ui.sweeps import pictures, setup
from peft_lab.ui.sweeps.pictures import SCOPE, SWEEP, written_value


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
    form = setup.setup()
    choices = pictures.sweep_controls().readers(
        held=pictures.read_held
    )  # the sweep first: the others depend on it
    state.read_address(SCOPE, choices | form.readers())
    kept = store.sweeps()
    with errors_boxed():
        with st.expander("New sweep", expanded=not kept or form.misread(), icon=":material/add:"):
            setup.new_sweep(form)
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
