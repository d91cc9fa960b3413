"""A learner's own file: uploaded, checked at once, and kept so that a run can read it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import streamlit as st

from peft_lab import assets
from peft_lab.errors import BadInput
from peft_lab.shapes import ModelKind
from peft_lab.tasks import own
from peft_lab.ui import state
from peft_lab.ui.foreign import plain

_COLUMNS = {"encoder": "text,label", "causal-lm": "prompt,completion"}


def upload(kind: ModelKind, locked: bool) -> str | None:
    """The control; returns the path of the checked file, or ``None`` with what is missing or wrong said below it."""
    wanted = _COLUMNS[kind]
    file = st.file_uploader(
        f"CSV or JSON Lines with {wanted}", type=["csv", "jsonl"], disabled=locked, key=f"own-file.{kind}",
        help=f"At most {own.MAX_BYTES // 1_000_000} MB and {own.MAX_ROWS:,} rows. The file stays on this machine.",
    )  # fmt: skip
    if file is not None:
        state.remember("own", "file", _keep(file.name, file.getvalue()), kind)
    path = state.remembered("own", "file", None, kind)
    if path is None:
        st.caption(f"Choose a file with the columns {wanted} to train on it.")
        return None
    try:
        task = own.load_file(path)
        if kind not in task.model_kinds:
            raise BadInput(f"This file has other columns; this kind of model trains on {wanted}.", "own_data")
    except BadInput as error:
        st.markdown(f":red[:material/error: {plain(error)}]")
        return None
    splits = task.load()
    st.caption(
        f"{plain(Path(path).name.split('-', 1)[1])}: "
        f"{len(splits.train):,} rows to train on, {len(splits.test):,} held out."
    )
    return str(path)


def _keep(name: str, data: bytes) -> str:
    """The upload under PEFT_LAB_HOME, named by its content, so that the same file is kept once."""
    folder = assets.home() / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in Path(name).name)[-60:]
    path = folder / f"{hashlib.sha256(data).hexdigest()[:12]}-{safe}"
    if not path.exists():
        path.write_bytes(data)
    return str(path)
