"""The catalogue: the models that can be named, which of them can be trained here, and the shape of each.

A catalogue entry is one JSON file in ``data/``: the config as published, and the shape read from a model built from it
on the meta device (``python -m tools.refresh_catalogue``; a test compares the two). ``more.json`` has models that can
be named too, but that questions, claims and comparisons leave out. Any other Hugging Face id or local path is resolved
by :func:`resolve`, without running remote code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import asking, disk
from peft_lab.core.disk import HUB_ID, stamp
from peft_lab.core.errors import BadInput, echoed, named
from peft_lab.models import own, shapes
from peft_lab.models.own import has_weights, is_folder
from peft_lab.models.shapes import ModelEntry

_HERE = Path(__file__).parent
_BY_SHAPE = (
    "{} is known here by its shape only, so it can be counted and drawn, not trained. To train, choose {}, or a "
    "folder with your own model; your settings stay as they are."
)


@cache
def catalogue() -> dict[str, ModelEntry]:
    """Return all entries by name: live ones first, then text models before image models, then by size."""
    return _by_name([disk.read_json(path) for path in (_HERE / "data").glob("*.json")])


@cache
def known_models() -> dict[str, ModelEntry]:
    """Return every model that can be named: the catalogue's, then the further ones, known by shape, by size."""
    first = catalogue()
    return first | _by_name(disk.read_json(_HERE / "more.json"), first.values())


def _by_name(rows: Iterable[dict[str, Any]], others: Iterable[ModelEntry] = ()) -> dict[str, ModelEntry]:
    entries = [ModelEntry(**row | {"shape": shapes.from_dict(row["shape"])}) for row in rows]
    entries.sort(key=lambda entry: (not entry.live, entry.kind == "vision", entry.parameters))
    live = " or ".join(entry.title for entry in (*entries, *others) if entry.live)
    return {
        entry.name: entry if entry.live else replace(entry, lacking=_BY_SHAPE.format(entry.title, live))
        for entry in entries
    }


def readers_of_text(further: bool = False) -> dict[str, ModelEntry]:
    """Return the entries that read text: those covered by questions and claims, or ``further`` ones too."""
    models = known_models() if further else catalogue()
    return {name: entry for name, entry in models.items() if entry.kind != "vision"}


def model_title(name: str) -> str:
    """Return a model's title; for a name that is not known the name itself, which the page has to escape."""
    return known_models()[name].title if name in known_models() else name


def get_model(name: str) -> ModelEntry:
    """Return a catalogue entry by name. Raises UnknownName: there is none; the message suggests the nearest name."""
    return named("model in the catalogue", name, known_models(), "model")


def known_base(named: str) -> ModelEntry | None:
    """Return the entry for a name, a Hugging Face id, or the last part of a path; ``None`` if none fits."""
    last = named.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower()
    for entry in known_models().values():
        source = str(entry.source).split(",")[0].rsplit("/", 1)[-1].lower()
        if last and last in (entry.name.lower(), source):
            return entry
    return None


def looks_external(name: str) -> bool:
    """Return whether ``name`` is a Hugging Face id (owner/name) or an existing folder rather than a catalogue name."""
    if name in known_models():
        return False
    # transformers treats an id as a folder if a folder of that name exists
    return is_folder(name) or (
        bool(HUB_ID.fullmatch(name)) and not (asking.class_is_on() and Path(name).exists())
    )


def weights_here(entry: ModelEntry) -> bool:
    """Return whether a model's weights are on this machine now, so that they can be read without a download."""
    return entry.live if entry.name in known_models() else has_weights(entry.name)


def resolve(name: str) -> ModelEntry:
    """Return a catalogue entry, or an entry made from the current config of a Hugging Face id or a local folder.

    Imports torch and transformers for names outside the catalogue; never runs code that comes with a model.

    Raises:
        UnknownName: the name is neither in the catalogue nor an id or a folder.
        BadInput: the config cannot be read, or its model neither reads text nor classifies images.
    """
    if not looks_external(name):
        if name not in known_models() and ("/" in name or name.startswith((".", "~"))):
            place = "that this class may use" if asking.class_is_on() else "on this machine"
            raise BadInput(
                f"'{echoed(name, 200)}' is neither a folder {place} nor a Hugging Face id.", "model"
            )
        return get_model(name)
    return own.read_entry(name, stamp(name))


_SIZE = re.compile(
    r"size mismatch for (?P<name>\S+): copying a param with shape torch\.Size\(\[(?P<found>[\d, ]*)\]\) from "
    r"checkpoint, the shape in current model is torch\.Size\(\[(?P<wanted>[\d, ]*)\]\)"
)

# Raised for invalid values (a zero rank, a broken pattern), a missing package, or an unsupported model.
REFUSALS = (*own.RAISED, re.error)


def reason(error: Exception) -> str:
    """Return the text of an error of PEFT's as the end of a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"one of its values has the wrong type ({text})" if isinstance(error, TypeError) else text


def misshapen(
    holder: str, name: str, stored: Sequence[int], wanted: Sequence[int], field: str = "adapter"
) -> BadInput:
    """Return the error for a stored tensor whose shape differs from the model's; both shapes in torch's order."""
    shapes = (" × ".join(map(str, shape)) or "a single number" for shape in (stored, wanted))
    return BadInput("{} stores '{}' as {}, but this model has {}.".format(holder, name, *shapes), field)


@contextmanager
def fitting_shapes() -> Iterator[None]:
    """Convert torch's complaint about a tensor's shape, while an adapter is loaded, to :func:`misshapen`'s error.
    Raises BadInput: a tensor of the adapter does not have the model's shape; the first one is named."""
    try:
        yield
    except RuntimeError as error:
        told = _SIZE.search(str(error))
        if told is None:
            raise
        stored, wanted = (
            [int(size) for size in re.findall(r"\d+", told[part])] for part in ("found", "wanted")
        )
        # PEFT loads a prompt into an embedding, so torch names that embedding's only tensor
        name = "prompt_embeddings" if told["name"] == "weight" else told["name"]
        raise misshapen("The adapter", name, stored, wanted) from error
