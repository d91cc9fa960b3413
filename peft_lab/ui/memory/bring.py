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
from peft_lab.ui.memory.controls import OWN, MemoryForm, set_page

_KEPT = "memory-brought"  # the file that the controls were set from
_TOOLS = "Axolotl, LLaMA-Factory, TRL, Unsloth, torchtune, DeepSpeed or accelerate"


def bring() -> None:
    """Draw the upload of a config file, and what was read of the last one."""
    with st.expander("Bring your config file"):
        file = st.file_uploader(_TOOLS, ["yaml", "yml", "json", "sh", "py", "ipynb"], key="memory-file")
        if file is None:
            return
        try:
            reading = read(file.getvalue()[: MOST_NOTEBOOK + 1].decode("utf-8", "replace"), file.name)
        except BadInput as error:
            error_line(error)
            return
        if st.session_state.get(_KEPT) != file.file_id:
            st.session_state[_KEPT] = file.file_id
            set_page(**fields_of(reading))
        method = f"{get_method(reading.method).title} of " if reading.method else ""
        model = model_title(reading.settings.get("model", "a model that the file does not name"))
        st.markdown(
            f"Read as {reading.tool}: {method}**{plain(model)}**. {len(reading.understood)} keys are understood, "
            f"{len(reading.ignored)} are ignored. `peft-lab memory FILE` also uses the file's rank and sharding."
        )
        with st.expander("Details"):
            figures.table(("Ignored", "Why", "What this may change"), list(reading.ignored))


def fields_of(reading: Reading) -> dict[str, Any]:
    """Return the page's fields that a file decides."""
    said = reading.settings
    found = {
        name: value for name, value in ({**said, **reading.step({})}).items() if name in MemoryForm.fields()
    }
    if not reading.method:
        return found
    names = tuple(said.get("target_modules", ()))
    known = {("all-linear",): "all-linear", ("q_proj", "v_proj"): "query-value"}
    packed = {4: said.get("bnb_4bit_quant_type", "nf4"), 8: "int8"}.get(said.get("bits", 16))
    found |= {"method": reading.method, "targets": known.get(names, OWN)}
    return found | ({"dtype": packed} if packed else {})
