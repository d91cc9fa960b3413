"""Ship it: the engines' verdicts on an adapter, and what has to change for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import streamlit as st

from peft_lab.core import inspector, units
from peft_lab.core.form import Form, choice
from peft_lab.interview.clinic import stages
from peft_lab.methods import get_method
from peft_lab.models.catalogue import known_base, known_models, model_title
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs import store
from peft_lab.runs.view import RunSummary, Status
from peft_lab.studies import blending
from peft_lab.studies.blending import TASKS
from peft_lab.studies.same_rows import SHIPPED
from peft_lab.takeaway.ship import convert
from peft_lab.takeaway.ship.adapter import WEIGHTS, Adapter, from_files, of_folder, read
from peft_lab.takeaway.ship.passport import MADE, Engine, Verdict, engines, passport
from peft_lab.training.tasks import get_task
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import pages, state, web
from peft_lab.ui.components import figures, waiting
from peft_lab.ui.components.form import Controls, choose
from peft_lab.ui.components.frame import errors_boxed, tabs
from peft_lab.ui.components.knobs import apart
from peft_lab.ui.foreign import plain
from peft_lab.ui.runs.shown import short_id, summaries
from peft_lab.ui.ship.answers import exhibits, same_answers
from peft_lab.ui.ship.blend import blend_section

SCOPE = "ship"
#: The tabs by their name in the address.
TABS = {"where": "Where it runs", "same": "Same answers?", "wrong": "Answers wrongly", "blend": "Blend"}
SHIP_CSS = web.read("ship.css")
#: The engines that stand on the page at once; the others are folded.
FIRST = ("peft", "vllm", "llama.cpp", "ollama", "mlx")
_LOADS = {
    "runs": ":green[:material/check_circle:] Loads",
    "change": ":orange[:material/edit:] After a change",
    "wrong": ":red[:material/error:] Loads, **answers wrongly**",
    "refused": ":red[:material/close:] Refused",
    "unknown": ":gray[:material/info:] Not known",
}


@dataclass(frozen=True)
class ShipForm(Form):
    """The adapter, a run's or one that ships, and the open tab."""

    run: str = choice(
        "", "Adapter", "", lambda: dict.fromkeys([*TASKS, *(run.id for run in store.runs())], ""), noun="run"
    )
    tab: str = choice("where", "Tab", "", TABS)


def ship_page() -> None:
    pages.open_page()
    controls = Controls(ShipForm, SCOPE)
    controls.read_address()
    with st.container(key="ship-top"):
        head, place = st.columns([3, 2], vertical_alignment="top")
    head.title("Ship it")
    head.markdown(
        "Where your adapter runs, what has to change first, and whether it still gives the same answers."
    )
    with errors_boxed():
        adapter, base = _chosen(place)
        mine = adapter.name if adapter.folder and adapter.name not in TASKS.keys() - {SHIPPED} else ""
        sections: dict[str, Callable[[], None]] = {
            "where": lambda: where_it_runs(adapter, base),
            "same": lambda: same_answers(mine),
            "wrong": lambda: exhibits(mine),
            "blend": blend_section,
        }
        drawn = {TABS[name]: draw for name, draw in sections.items()}
        title = tabs(SCOPE, drawn, TABS[controls.value("tab")])
        controls.remember("tab", next(name for name in TABS if TABS[name] == title))
    controls.write_address()


def _chosen(place: st.delta_generator.DeltaGenerator) -> tuple[Adapter, ModelEntry | None]:
    done = [
        line for line in summaries() if line.status == Status.DONE and store.get(line.id).adapter.is_dir()
    ]
    with place:
        titles = apart({line.id: _title(line) for line in done})
        titles |= {name: f"Ships with PEFT Lab: LoRA, {get_task(task).title}" for name, task in TASKS.items()}
        run = choose(SCOPE, "run", "Adapter", titles)
        beneath = st.container(
            horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
        )
        said = beneath.empty()
        upload = beneath.popover("Upload another", icon=":material/upload_file:", type="tertiary")
        if not done:
            with beneath:
                pages.link("lora", "Train your own LoRA", query={"tab": "train"})
        files = upload.file_uploader(
            "Adapter", accept_multiple_files=True, key="ship-files",
            help=f"A zip of the folder, or its files: {WEIGHTS}, adapter_config.json and the tokenizer's files.",
        )  # fmt: skip
        if files:
            adapter = from_files("your upload", {file.name: file.getvalue() for file in files})
        else:
            adapter = of_folder(blending.SHIPPED / run, run) if run in TASKS else read(run)
        known = known_base(adapter.base)
        if known is not None:
            where = f" · on {plain(known.title)}" if files or run in TASKS else ""  # a run's title says it
            said.caption(f"{_size(adapter)}{where} {figures.badge('counted')}", width="content")
            return adapter, known
        names = {"": "Not among these"} | {name: entry.title for name, entry in known_models().items()}
        named = choose(
            SCOPE, "base", "Base model", names, text="Without a base model, the shapes are not compared."
        )
        return adapter, known_models().get(named)


def _title(line: RunSummary) -> str:
    return f"{get_method(line.method).title}, {task_title(line.task)} · {model_title(line.model)} · {short_id(line.id)}"


def _size(adapter: Adapter) -> str:
    rank = f"rank {adapter.config['r']} · " if type(adapter.config.get("r")) is int else ""
    entries = sum(tensor.size for tensor in adapter.tensors.values())
    return f"{plain(adapter.type)} · {rank}{units.count(entries)} entries"


def where_it_runs(adapter: Adapter, base: ModelEntry | None) -> None:
    """Draw every engine's verdict, the check of the adapter, and the sources."""
    verdicts = {verdict.engine: verdict for verdict in passport(adapter, base)}
    with st.container(horizontal=True, vertical_alignment="center", key="ship-verdict"):
        st.markdown(f"**{_summary(verdicts)}** {figures.badge('cited')}")
        if st.button("Check my adapter", type="primary", key="ship-check"):
            state.remember(SCOPE, "checked", adapter.name)
    if state.remembered(SCOPE, "checked", "") == adapter.name:
        marks = {True: "✓", False: "✗", None: "?"}
        rows = [
            (one.stage, marks[one.ok], f"{one.evidence} {one.fix}") for one in stages.check(adapter, base)
        ]
        figures.table(("Stage", "OK", "Evidence, and what to do"), rows, fold=True)
        st.markdown(
            f":small[Counted in the file and compared with the base's shape.] {figures.badge('counted')}"
        )
    with st.container(border=True, key="ship-engines"):
        _row(("Engine", "Does it load?", "Same answers as in training?", "What has to change"), "ship-head")
        for name in FIRST:
            _engine(engines()[name], verdicts[name], adapter, base)
        others = [name for name in verdicts if name not in FIRST]
        with st.expander("Other engines: " + ", ".join(engines()[name].title for name in others)):
            for name in others:
                _engine(engines()[name], verdicts[name], adapter, base)
    with st.expander("Details: what each engine does, and where its source shows it"):
        for name, verdict in verdicts.items():
            one = engines()[name]
            st.markdown(
                f"**{one.title} {one.version}**, read in {plain(one.read_in)} {figures.badge('cited')}"
            )
            rows = [(each.what, each.words or "–", each.where) for each in verdict.reasons]
            figures.table(("What it does", "In its own words", "Where"), rows, fold=True)
            if one.unknown:
                st.caption(f"Not found in its source: {plain('; '.join(one.unknown))}.")


def _summary(verdicts: Mapping[str, Verdict]) -> str:
    by: dict[str, list[str]] = {state: [] for state in _LOADS}
    for one in verdicts.values():
        by[one.verdict].append(engines()[one.engine].title)
    parts = [
        f"The adapter runs unchanged in {len(by['runs'])} of {len(verdicts)} engines",
        f"{len(by['change'])} need a change" if by["change"] else "",
        f"{', '.join(by['wrong'])}: loads and answers wrongly" if by["wrong"] else "",
        f"{', '.join(by['refused'])}: refused" if by["refused"] else "",
        f"{len(by['unknown'])} are not known" if by["unknown"] else "",
    ]
    return "; ".join(filter(None, parts)) + "."


def _row(texts: tuple[str, ...], key: str) -> list[st.delta_generator.DeltaGenerator]:
    """Draw a row of the table, and return its cells; the last one is empty."""
    with st.container(key=key):
        cells = st.columns([17, 18, 21, 30, 14], vertical_alignment="center")
    for cell, text in zip(cells, texts, strict=False):
        cell.markdown(text)
    return cells


def _engine(engine: Engine, verdict: Verdict, adapter: Adapter, base: ModelEntry | None) -> None:
    reason = verdict.reasons[0]
    change = MADE.get(verdict.change, f"`{verdict.change}`" if verdict.change else "")
    nothing = {"runs": "Nothing", "unknown": "Not known"}.get(verdict.verdict, "No change helps")
    answers = "The reference" if engine.name == "peft" else ":gray[Not measured]"
    if (seen := verdict.measured) is not None:
        mark = ":green[:material/check_circle:]" if seen.same else ":red[:material/error:]"
        head, _, rest = str(seen).partition(", ")
        answers = f"{mark} {head}  \n:small[{rest}] {figures.badge('measured')}"
    what = f"**{change[:1].upper()}{change[1:] or nothing}**  \n:small[{plain(reason.what)}]"
    texts = (f"**{engine.title}**  \n:small[{engine.place}]", _LOADS[verdict.verdict], answers, what)
    cell = _row(texts, f"ship-row-{engine.name.replace('.', '-')}")[-1]
    if verdict.verdict in ("runs", "change") or verdict.change in MADE:
        with cell.popover("Make the files" if verdict.change in MADE else "Command", width="stretch"):
            st.code(verdict.command, language=None, wrap_lines=True)
            if verdict.change in MADE:
                merged = verdict.change == "merged"
                make_files(SCOPE, "safetensors-bfloat16" if merged else engine.name, adapter, base)


#: Engines whose files are as small as the adapter; the merged model is made on the command line.
HERE = ("vllm", "sglang", "llama.cpp", "mlx")


def make_files(scope: str, engine: str, adapter: Adapter, base: ModelEntry | None) -> None:
    """Draw the button that makes the files, then their download; of an upload or a merged model, the command."""
    named = f" --base {base.name}" if base else ""
    if engine not in HERE or adapter.folder is None:
        if engine != "peft":
            st.caption("Make its files on the command line:")
            st.code(f"peft-lab ship ADAPTER{named} --to {engine} --out DIR", language=None, wrap_lines=True)
        return
    if st.button("Make the files", key=f"ship-make-{engine}", icon=":material/download:", type="tertiary"):
        state.remember(scope, "made", adapter.name, engine)
    if state.remembered(scope, "made", "", engine) == adapter.name:
        worker = inspector.get_inspector(inspector.Worker.ANSWERS)
        source, on = str(adapter.folder), base.name if base else ""
        asked = worker.submit(convert.packed, source, on, engine)
        doing = f"Writing {len(adapter.tensors):,} tensors, and reading each back…"
        waiting.shown(asked, lambda made: _drawn(engine, made), doing, where=engine)


def _drawn(engine: str, made: convert.Packed) -> None:
    difference = made.compared["max_difference"]
    st.markdown(
        f":small[{made.compared['tensors']:,.0f} tensors read back; largest difference {difference:.1g}] "
        f"{figures.badge('counted')}"
    )
    st.download_button(
        "Download", made.content, f"adapter-{engine}.zip", "application/zip", key=f"ship-zip-{engine}",
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip
