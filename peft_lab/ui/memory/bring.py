"""Another tool's config file on the page: what it sets moves the controls, and the rest is said."""

from __future__ import annotations

from typing import Any

import streamlit as st

from peft_lab.advise.foreign.parsing import MOST_NOTEBOOK
from peft_lab.advise.foreign.reading import Reading, read
from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.models.catalogue import model_title
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.foreign import plain
from peft_lab.ui.memory.controls import MemoryForm, set_page

_KEPT = "memory-brought"  # the file that the controls were set from, and what was read of it
_ENDINGS = ["yaml", "yml", "json", "sh", "py", "ipynb"]


def bring() -> None:
    """Draw the upload of a config file, and what was read of the last one."""
    with st.expander("Bring your config file"):
        file = st.file_uploader(
            "Axolotl, LLaMA-Factory, TRL, Unsloth, torchtune, DeepSpeed or accelerate",
            _ENDINGS,
            key="memory-file",
        )
        if file is None:
            return
        kept: tuple[str, Reading] | None = st.session_state.get(_KEPT)
        if kept is not None and kept[0] == file.file_id:
            _told(kept[1])
            return
        try:
            reading = read(file.getvalue()[: MOST_NOTEBOOK + 1].decode("utf-8", "replace"), file.name)
        except BadInput as error:
            error_line(error)
            return
        st.session_state[_KEPT] = (file.file_id, reading)
        set_page(**fields_of(reading))


def fields_of(reading: Reading) -> dict[str, Any]:
    """Return the page's fields that a file decides."""
    said = reading.settings
    found = {name: value for name, value in reading.step({}).items() if name in MemoryForm.fields()}
    found |= {"model": said["model"]} if "model" in said else {}
    if not reading.method:
        return found
    names = set(said.get("target_modules", ()))
    targets = (
        "all-linear" if "all-linear" in names else "query-value" if names == {"q_proj", "v_proj"} else "own"
    )
    packed = {4: said.get("bnb_4bit_quant_type", "nf4"), 8: "int8"}.get(said.get("bits", 16))
    return found | {"method": reading.method, "targets": targets} | ({"dtype": packed} if packed else {})


def _told(reading: Reading) -> None:
    """Draw one sentence on what was read, and the keys that were not."""
    said = reading.settings
    method = f"{get_method(reading.method).title} of " if reading.method else ""
    model = model_title(said["model"]) if "model" in said else "a model that the file does not name"
    st.markdown(
        f"Read as {reading.tool}: {method}**{plain(model)}**. {len(reading.understood)} of its keys are understood, "
        f"{len(reading.ignored)} are not read. `peft-lab memory FILE` also takes its rank and the sharding."
    )
    with st.container(key="memory-file-details"), st.popover("Details"):
        rows = [(plain(one.key), plain(one.why), plain(one.effect)) for one in reading.ignored]
        figures.table(("Not read", "Why", "What it may change"), rows)
