"""The model control of every page: a catalogue entry, or a typed Hugging Face id or folder.

Ids and folders are read in another process: only the config, which needs transformers and, for an id that is
not cached here, a connection. If a name turns out not to be a model, the page keeps the model it had, and the
control shows the error.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from peft_lab.core import asking, disk, inspector
from peft_lab.core.disk import stamp
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.models import catalogue as models
from peft_lab.models import own
from peft_lab.models.catalogue import catalogue, known_models
from peft_lab.models.shapes import ModelEntry
from peft_lab.ui import state
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.waiting import come_back, look
from peft_lab.ui.foreign import plain

SCOPE = "models"
STAMPS = "models-stamps"  # of their folders when they were looked up
MOST_CHARACTERS = 300
PATIENCE = 1.0  # seconds that a page waits for a typed name before it is drawn without
ADDRESS_PATIENCE = 20.0  # the same for a name in an address, on which all else in the address may depend
HELP = (
    "The first models can be trained here. The others are built without weights: the app counts their parameters "
    "exactly, but cannot train them. For your own model, enter the folder with its config.json. The model can be "
    "trained if this folder also contains its weights (safetensors) and its tokenizer. You can also enter a Hugging "
    "Face id (owner/name), if the hub can be reached or the model is cached."
)


def entry_of(name: str, patience: float = ADDRESS_PATIENCE) -> ModelEntry:
    """Return the model of that name; if its folder no longer holds one, the model known before. Raises BadInput if
    there is none that can be used, TimeoutError if it is unknown after ``patience`` seconds."""
    try:
        return _entry_now(name, patience)
    except (PeftLabError, TimeoutError):
        known: ModelEntry | None = state.remembered(SCOPE, name, None)
        if known is None:
            raise
        return known


def _entry_now(name: str, patience: float) -> ModelEntry:
    """Return :func:`entry_of`'s result for a folder as it is now."""
    if name in known_models():
        return known_models()[name]
    stamped = stamp(name)
    known: ModelEntry | None = state.remembered(SCOPE, name, None)
    if known is None or state.remembered(STAMPS, name, stamped) != stamped:
        known = _look_up(name).result(timeout=patience)
        state.remember(SCOPE, name, known)
        state.remember(STAMPS, name, stamped)
    return known


def normal(text: str) -> str:
    """Return a typed name stripped of blanks; a folder as its full path. Raises BadInput if it is empty, or longer
    than any name."""
    name = text.strip()
    if not name or len(name) > MOST_CHARACTERS:
        raise BadInput(f"A model's name or folder has 1 to {MOST_CHARACTERS} characters.", "model")
    if name.startswith("~") and not asking.class_is_on():  # which would tell a class who has an account
        name = str(disk.at_home(name))
    return str(Path(name).absolute()) if name not in known_models() and own.is_folder(name) else name


def from_address(text: str) -> str:
    """Return a model's name from a URL, once it is known to be one. Raises BadInput if it is no model's, or could
    not be looked up in time."""
    name = normal(text)
    try:
        _entry_now(name, ADDRESS_PATIENCE)
    except TimeoutError:
        raise BadInput(f"'{name}' could not be found within {ADDRESS_PATIENCE:.0f} s.", "model") from None
    except PeftLabError as error:
        raise BadInput(str(error), "model") from None
    return name


def model_control(current: ModelEntry, key: str) -> ModelEntry:
    """Draw the control, with errors below it; return the model, or ``current`` if the typed name is none."""
    chosen = choose_model(current, key)
    if chosen.error is not None:
        error_line(f"{chosen.error} The page still shows {current.title}.")
    return chosen.entry


@dataclass(frozen=True)
class Chosen:
    """The control's value. ``entry``: the model, or the previous one if ``typed`` names none, for the reason
    in ``error``."""

    entry: ModelEntry
    typed: str
    error: PeftLabError | None = None


def choose_model(
    current: ModelEntry, key: str, typed: str = "", because: PeftLabError | None = None
) -> Chosen:
    """Draw the control; the caller shows errors. ``typed``: the initial text if it is not a model, for the
    reason ``because``."""
    names = list(dict.fromkeys([*known_models(), *state.scope(SCOPE), current.name, *filter(None, [typed])]))
    text = st.selectbox(
        "Model",
        names,
        index=names.index(typed or current.name),
        key=key,
        format_func=_title,
        help=HELP,
        accept_new_options=True,
        disabled=state.is_fixed("model"),
    )
    if because is not None and text == typed:  # which was looked up before
        return Chosen(current, typed, because)
    try:
        name = normal(text or current.name)
        entry = _entry_now(name, PATIENCE)
    except TimeoutError:
        come_back(look(_look_up(name)))
        st.markdown(f"Looking for '{plain(name)}'…")
        return Chosen(current, name)
    except PeftLabError as error:
        return Chosen(current, text or "", error)
    if entry.name not in catalogue():
        st.caption(plain(_own(entry)))
    return Chosen(entry, name)


def _own(entry: ModelEntry) -> str:
    """Return a sentence on whether a model outside the catalogue can be trained."""
    lacking = entry.lacking
    if lacking is not None:
        return f"{lacking} Its config: {entry.config_source}." if entry.config_source else lacking
    if models.weights_here(entry):
        return f"The model's weights are on {asking.here()}, so the model can be trained."
    return "The app downloads the model's weights from the Hugging Face Hub when you first train the model."


def _look_up(name: str) -> Future[ModelEntry]:
    return inspector.get_inspector(inspector.Worker.MODELS).submit(models.resolve, name)


def _title(name: str) -> str:
    entry = known_models().get(name)
    if entry is None:
        return name
    return entry.title + ("" if entry.live else " · shape only")
