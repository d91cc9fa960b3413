"""A learner's own file: uploaded, checked at once, and stored for runs to read."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab.classroom import places
from peft_lab.core import asking, palette
from peft_lab.core.asking import limits_of_asker
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.units import Source
from peft_lab.models.shapes import ModelKind
from peft_lab.runs import allowance, preview
from peft_lab.runs.preview import Preview, Token, heading, headline, notes, visible
from peft_lab.runs.spec import RunSpec
from peft_lab.training.tasks import apart, hub, own, pictures, records
from peft_lab.ui import state, web
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain

_COLUMNS = {
    "encoder": "text,label or tokens,tags",
    "causal-lm": "prompt,completion, or messages",
    "seq2seq": "prompt,completion",
    "vision": "one folder per class",
}
_CONVERSATIONS = (
    ' A conversation is one line of JSON Lines: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", '
    '"content": "…"}]}. The model learns all answers of the assistant.'
)
_TAGS = (
    ' Tagged words are lines of JSON such as {"tokens": ["Ann", "left"], "tags": ["B-name", "O"]}, or CoNLL (.conll, '
    ".txt): a word and its tag in each line, and a blank line between sentences."
)
_HELP = {"causal-lm": _CONVERSATIONS, "encoder": _TAGS}


def upload(kind: ModelKind, locked: bool) -> str | None:
    """Draw the control; return the checked file's path, or None with the error or request below it."""
    wanted, formats = _COLUMNS[kind], "CSV, JSON Lines or CoNLL" if kind == "encoder" else "CSV or JSON Lines"
    file = _images(locked) if kind == "vision" else st.file_uploader(
        f"{formats} with {wanted}", type=[ending[1:] for ending in records.SUFFIXES], disabled=locked,
        key=f"own-file.{kind}",
        help=f"At most {own.MAX_BYTES // 1_000_000} MB and {own.MAX_ROWS:,} rows. The file stays on {asking.here()}."
        + _HELP.get(kind, "")
        + _storage_limit(),
    )  # fmt: skip
    slot = st.empty()
    try:
        if file is not None:
            kept = keep(file.name, file.getvalue(), lambda: _reading(slot))
            _remember(kind, kept, None)
        elif kind != "vision" and not asking.class_is_on():
            _from_hub(kind, locked)
        path = chosen_file(kind)
        if path is None or not Path(path).exists():  # removed on the Runs page, or old
            what = "a zip with" if kind == "vision" else "a file with the columns"
            st.caption(f"Choose {what} {wanted} to train on it.")
            return None
        task = apart.load_file(path, lambda: _reading(slot))
        if kind not in task.model_kinds:
            raise BadInput(f"This file has other columns. Models of this kind train on {wanted}.", "own_data")
    except PeftLabError as error:
        error_line(error)
        return None
    finally:
        slot.empty()
    splits, kept_at = task.load(), Path(path)
    noun = "images" if task.images else "conversations" if task.kind == "chat" else "rows"
    mine = kept_at.parent.name == hub.UPLOADS  # its name begins with a hash; a run's copy is named by the run
    called = kept_at.name.split("-", 1)[1] if mine else f"Data of {kept_at.parent.name}"
    st.caption(
        f"{plain(called)}: {len(splits.train):,} {noun} to train on, {len(splits.test):,} held out. {task.note}".strip()
    )
    return str(path)


def chosen_file(kind: ModelKind) -> str | None:
    """Return the path of the learner's stored file; None before they chose one."""
    path: str | None = state.remembered("own", "file", None, kind)
    return path


def source_of(kind: ModelKind) -> str | None:
    """Return the dataset, with its commit, behind the stored file; None for an upload."""
    source = state.remembered("own", "source", None, kind)
    return None if source is None else str(source)


def choose_of(spec: RunSpec, kind: ModelKind) -> None:
    """Choose a run's own copy of its training data for the next run."""
    if spec.own_data is not None:
        state.remember("own", "said", spec.own_source or "", kind)
        _remember(kind, spec.own_data, spec.own_source)


def _remember(kind: ModelKind, path: str, source: str | None) -> None:
    state.remember("own", "file", path, kind)
    state.remember("own", "source", source, kind)


def _from_hub(kind: ModelKind, locked: bool) -> None:
    """Draw the field for a dataset's name, and fetch it when it changes. Raises PeftLabError."""
    named = st.text_input(
        "Or a Hugging Face dataset", state.remembered("own", "hub", "", kind), disabled=locked,
        key=f"own-hub.{kind}", placeholder=f"{hub.MARK}owner/name:{hub.SPLIT}",
        help="hf:owner/name:split. If the dataset's columns have other names, state which columns to use: "
        "hf:owner/name?text=sentence&label=label. Parquet, JSON Lines and CSV can be read; no code of the dataset is "
        "run.",
    ).strip()  # fmt: skip
    if named and named != state.remembered("own", "hub", "", kind):
        with st.spinner("Fetching the dataset…"):
            path, found = hub.kept_hub_file(named)
        state.remember("own", "hub", named, kind)
        state.remember("own", "said", found.said, kind)
        _remember(kind, path, str(found.asked))
    if source_of(kind) is not None:
        st.caption(plain(str(state.remembered("own", "said", "", kind))))


def _images(locked: bool) -> Any:
    """Draw the control for images; browsers can upload a folder only as a zip."""
    return st.file_uploader(
        "Zip of images, one folder per class", type=["zip"], disabled=locked, key="own-file.vision",
        max_upload_size=pictures.MAX_UPLOAD_BYTES // 1_000_000,
        help="PNG or JPEG. The name of an image's folder is its class. At most "
        f"{pictures.MAX_UPLOAD_BYTES // 1_000_000} MB, {pictures.MAX_IMAGES:,} images, {pictures.MAX_LABELS} "
        "classes. "
        f"The images stay on {asking.here()}." + _storage_limit(),
    )  # fmt: skip


def _storage_limit() -> str:
    """Return how much a learner of a class may store, as a sentence; empty without a class."""
    found = limits_of_asker()
    return f" In this class you may store {found.upload_megabytes} MB for {found.days} days." if found else ""


def _reading(slot: DeltaGenerator) -> None:
    """Show that a file is being read. Called repeatedly, so that a rerun of the page stops the reading."""
    slot.caption("Reading the file")


def keep(name: str, data: bytes, tick: Callable[[], object]) -> str:
    """Check an upload, store it under a name from its content, and return its path. Raises PeftLabError: it is none, or
    in a class more than a learner may store; nothing is stored then."""
    apart.load(data, name, tick)
    folder = places.mine() / hub.UPLOADS
    folder.mkdir(parents=True, exist_ok=True)
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in Path(name).name)[-60:]
    path = folder / f"{hashlib.sha256(data).hexdigest()[:12]}-{safe}"
    if not path.exists():
        with allowance.storing(len(data)):
            path.write_bytes(data)
    return str(path)


# ----------------------------------------
# A learner's rows token by token: what is learned, what is only read, and what the format costs.


NEW_LINE = "\n"  # as a token of its own: what follows stands on a new line
_COLOURS = {
    "INK": palette.INK,
    "FROZEN": palette.FROZEN,
    "LIGHT": palette.TRAINED_LIGHT,
    "TRAINED": palette.TRAINED,
}
_CSS = web.read("tokens.css", **{name: colour.css for name, colour in _COLOURS.items()})


def tokens_of(model: str, path: str, max_length: int) -> None:
    """Draw the preview of a checked file, or the reason why there is none."""
    shown(lambda: preview.ask(model, path, max_length), _preview, "Reading the rows as tokens…")


def _preview(found: Preview | str) -> None:
    if isinstance(found, str):
        error_line(found)
        return
    with st.container(border=True):
        st.markdown(f"**What is learned** {figures.badge(Source.COUNTED)}")
        st.markdown(plain(headline(found)))
        for said in notes(found):
            st.caption(plain(said))
        key = (Token("only read", False, False), Token("learned", True, False), Token("a mark", False, True))
        rows = "".join(
            f"<p><strong>{html.escape(heading(row))}</strong><br>{_spans(row.tokens)}</p>"
            for row in found.sample
        )
        style = f"<style>{_CSS}</style>"
        st.html(f'{style}<p class="tokens">{_spans(key)}</p><div class="tokens" tabindex="0">{rows}</div>')


def _spans(tokens: Iterable[Token]) -> str:
    found = ""
    for token in tokens:
        tag, placed = "mark" if token.trained else "span", ' class="placed"' if token.mark else ""
        found += f"<{tag}{placed}>{html.escape(visible(token))}</{tag}>{'<br>' * (token.text == NEW_LINE)}"
    return found
