"""A run of one's own: files in, a ranked diagnosis out. Nothing leaves this machine, nothing is stored."""

from __future__ import annotations

import streamlit as st

from peft_lab.clinic import reading
from peft_lab.clinic.diagnose import SUSPECTED, Diagnosis, Suspicion, diagnose
from peft_lab.clinic.reliability import in_words
from peft_lab.errors import PeftLabError
from peft_lab.ui.clinic.symptoms import show_fix
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.units import Source


def examine() -> None:
    """Upload, and read the diagnosis."""
    st.markdown("Give what you have of a run: its configs, its log, its adapter. Any of them will do.")
    one, two, three = st.columns(3)
    configs = one.file_uploader(
        "Configs", type="json", accept_multiple_files=True, key="clinic-configs",
        help="adapter_config.json, and the training arguments as JSON.",
    )  # fmt: skip
    log = two.file_uploader(
        "Log", type=["json", "jsonl", "csv", "log", "txt"], key="clinic-log",
        help="Trainer's trainer_state.json, lines of JSON, CSV with a 'loss' column, or what the console showed.",
    )  # fmt: skip
    adapter = three.file_uploader(
        "Adapter folder", accept_multiple_files=True, key="clinic-adapter",
        help="The files of the folder: adapter_model.safetensors, adapter_config.json, the tokenizer's.",
    )  # fmt: skip
    if not (configs or log or adapter):
        return
    try:
        material = reading.Material()
        for file in configs or ():
            read = (
                reading.with_log if file.name == reading.STATE else reading.with_config
            )  # dropped with the rest
            material = read(material, file.name, file.getvalue())
        if log is not None:
            material = reading.with_log(material, log.name, log.getvalue())
        if adapter:
            material = reading.with_adapter(material, {file.name: file.getvalue() for file in adapter})
        found = diagnose(material)
    except PeftLabError as error:
        st.error(plain(error))
        return
    _shown(found)


def _shown(found: Diagnosis) -> None:
    if not found.found:
        st.info(plain(found.verdict))
    for each in found.found:
        _suspicion(each)
    rest = [each for each in found.suspicions if each.probability < SUSPECTED]
    if rest:
        with st.expander(f"Worth ruling out ({len(rest)})"):
            for each in rest:
                _suspicion(each)
    st.caption(
        "Read off your files: the evidence. Its weight, from 0 to 1, adds it up by numbers that were set by hand, and "
        "is no frequency; what stands beside it was counted on short runs with known faults (`bench/RESULTS.md`)."
    )


def _suspicion(each: Suspicion) -> None:
    with st.container(border=True):
        st.markdown(f"### {plain(each.fault.title)}")
        st.markdown(f"Weight of the evidence **{each.probability:.2f}** :gray-badge[set by hand]")
        st.caption(f"{in_words(each.probability)} {figures.badge(Source.MEASURED)}")
        for text in each.evidence:
            st.markdown(f":material/search: {plain(text)}")
        show_fix(each.fault)
        st.markdown(f"**Met in** [{plain(each.fault.reference.title)}]({each.fault.reference.url})")
