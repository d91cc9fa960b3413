"""A saved adapter as a folder that the adapters library loads, and its folders put on a model.

Weights are written twice, as ``load_adapter(folder)`` reads one file and ``load_adapter(folder, use_safetensors=True)``
the other. Read are safetensors; a ``.bin`` only where there are none, with torch's reader of nothing but tensors, and
in a class not at all.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab import disk, units
from peft_lab.classroom import mode
from peft_lab.errors import BadInput
from peft_lab.methods.base import CLASSIFYING, TaskType
from peft_lab.methods.shared import adapters_library as library
from peft_lab.methods.shared import bottleneck, own_format
from peft_lab.models import heads
from peft_lab.models.refusals import misshapen
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch

CONFIG, HEAD_CONFIG = own_format.CONFIG_FILE, "head_config.json"
WEIGHTS, HEAD = (
    ("adapter.safetensors", "pytorch_adapter.bin"),
    ("model_head.safetensors", "pytorch_model_head.bin"),
)
FILES = (CONFIG, HEAD_CONFIG, *WEIGHTS, *HEAD)
#: Of one file: adapters of the models here have some megabytes.
MAX_BYTES = 500_000_000
NAME = "default"


def read_content(place: Path) -> dict[str, Any]:
    """The content of the config in a folder, or a zip of one.

    Raises BadInput: there is none, or it is none of the adapters library's.
    """
    content = _bytes(place, CONFIG)
    if content is None:
        raise BadInput(f"There is no {CONFIG} in {place.name}.", library.FIELD)
    try:
        found: Any = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The {CONFIG} in {place.name} is not valid JSON.", library.FIELD) from error
    if not library.is_library(found):
        raise BadInput(f"The {CONFIG} in {place.name} is no config of the adapters library.", library.FIELD)
    return dict(found)


def pack(files: Mapping[str, bytes]) -> bytes:
    """A folder's files as one zip, equal files as equal bytes; others than the library's are left out."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in FILES:
            if name in files:
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    return made.getvalue()


def packed(place: Path) -> bytes:
    """:func:`pack` of what lies in a folder, or in a zip of one. Raises BadInput where it cannot be read."""
    found = {name: _bytes(place, name) for name in FILES}
    return pack({name: content for name, content in found.items() if content is not None})


def held(place: Path) -> frozenset[str]:
    """Which of the library's files a folder holds, or a zip of one. Raises BadInput where it cannot be read."""
    return frozenset(name for name in FILES if _bytes(place, name) is not None)


def _bytes(place: Path, name: str) -> bytes | None:
    """A file of the folder or zip; ``None`` where there is none of that name. Raises BadInput."""
    try:
        if place.is_dir():
            path = place / name
            if not path.is_file():
                return None
            _require_small(name, path.stat().st_size)
            return path.read_bytes()
        with disk.opened(place) as file, disk.unzipping(), zipfile.ZipFile(file) as archive:
            if name not in archive.namelist():
                return None
            entry = archive.getinfo(name)
            _require_small(name, entry.file_size)
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadInput(
                    f"{name} in {place.name} is packed by another method than deflate: pack the folder as a plain "
                    "zip, or name the folder.",
                    library.FIELD,
                )
            return archive.read(entry)
    except (OSError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"{name} in {place.name} cannot be read: {reason}.", library.FIELD) from error


def _require_small(name: str, size: int) -> None:
    if size > MAX_BYTES:
        said, most = units.unlike(size, MAX_BYTES)
        raise BadInput(f"{name} has {said}; at most {most} are taken.", library.FIELD)


def put(model: torch.nn.Module, shape: ModelShape, folder: Path, task_type: TaskType) -> None:
    """Copy the tensors of a folder into the adapter that is on a model, and into its head where it classifies.

    The adapter was applied with the values that :func:`library.values_of` reads off the same folder.

    Raises:
        BadInput: a folder of something else, tensors that are missing or too many, a head that belongs elsewhere.
    """
    content = read_content(folder)
    own = bottleneck.parameters_of(model, NAME)
    hosts = [path.rpartition(f".{bottleneck.CHILD}.")[0] for path in own]
    wanted = library.names(shape, dict.fromkeys(hosts), str(content.get("name")))
    state = {library.bare(key): tensor for key, tensor in _read(folder, WEIGHTS).items()}
    expected = {library.bare(theirs): ours for ours, theirs in wanted.items()}
    if odd := sorted(state.keys() ^ expected.keys()):
        what = "lacks" if odd[0] in expected else "also holds"
        raise BadInput(f"The weights of this folder are not whole: it {what} '{odd[0]}'.", library.FIELD)
    own_format.require_same({theirs: own[ours] for theirs, ours in expected.items()}, state)
    own_format.copy_into(own, {ours: state[theirs] for theirs, ours in expected.items()})
    _put_head(model, folder, task_type)


def _put_head(model: torch.nn.Module, folder: Path, task_type: TaskType) -> None:
    import torch

    if all(_bytes(folder, name) is None for name in HEAD):
        if task_type in CLASSIFYING:
            raise BadInput(
                "This folder holds no classification head (model_head.safetensors), so it cannot classify: save it "
                "with_head=True.",
                library.FIELD,
            )
        return
    state, parameters = _read(folder, HEAD), dict(model.named_parameters())
    if any(key.startswith("heads.") for key in state):
        raise BadInput(
            "The head of this folder is one of AutoAdapterModel's; opened are those of transformers' own classes "
            "(AutoModelForSequenceClassification with adapters.init).",
            library.FIELD,
        )
    if task_type in CLASSIFYING:
        own = {key: value for key, value in parameters.items() if heads.in_head(key)}
        if odd := sorted(state.keys() ^ own.keys()):
            raise BadInput(f"The head of this folder is of another model: '{odd[0]}'.", library.FIELD)
        own_format.copy_into(own, state)
        return
    for key, tensor in state.items():
        known = parameters.get(key)
        if known is not None and known.shape != tensor.shape:
            raise misshapen("This folder", key, tensor.shape, known.shape, library.FIELD)
        if known is not None and not torch.equal(known, tensor.to(known.dtype)):
            raise BadInput(
                f"This folder holds an output head of its own: '{key}' is not the base's. It is not exchanged here.",
                library.FIELD,
            )


def labels_of(folder: Path) -> tuple[str, ...]:
    """The labels of a folder's head in their order; empty where it names none."""
    try:
        content = json.loads((_bytes(folder, HEAD_CONFIG) or b"{}").decode("utf-8-sig"))
        numbers = content.get("label2id") or {}
        return tuple(sorted(numbers, key=lambda label: int(numbers[label])))
    except (ValueError, AttributeError, TypeError):
        return ()


def _read(folder: Path, files: tuple[str, str]) -> dict[str, torch.Tensor]:
    import torch
    from safetensors.torch import load

    safe, pickled = files
    name, content = safe, _bytes(folder, safe)
    try:
        if content is not None:
            return load(content)
        name, content = pickled, _bytes(folder, pickled)
        if content is None:
            raise BadInput(f"There is neither {safe} nor {pickled} in {folder.name}.", library.FIELD)
        if mode.on():
            raise BadInput(f"In a class {safe} is read alone: save with use_safetensors=True.", library.FIELD)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except Exception as error:  # whatever a damaged file makes the two readers raise
        raise BadInput(f"{name} cannot be read: {str(error).splitlines()[0][:200]}", library.FIELD) from error
    if not isinstance(state, Mapping) or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise BadInput(f"{name} does not hold tensors by name.", library.FIELD)
    return dict(state)


def write(
    folder: Path, saved: Path, shape: ModelShape, values: Mapping[str, Any], name: str, model_name: str,
    labels: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Write the folder of the library for an adapter that was saved here.

    Args:
        folder: made where it is not there. saved: the adapter's folder. name: of the adapter, without a dot.
        labels: of a classifier, in their order.

    Raises:
        BadInput: a placement that the library has not got on this model.
    """
    config, state = own_format.read_any_config(saved), own_format.read_state(saved)
    hosts = [place[0] for place in config["hosts"]]
    wanted = library.names(shape, hosts, name)
    model_class = _class_of(shape, bool(labels))
    content = library.content_of(shape, values, name, model_class, model_name)
    folder.mkdir(parents=True, exist_ok=True)
    _json(folder / CONFIG, content)
    _tensors(folder, WEIGHTS, {theirs: state[ours] for ours, theirs in wanted.items()})
    if labels:
        numbered = {label: number for number, label in enumerate(labels)}
        said = library.about(shape, model_class, model_name)
        _json(
            folder / HEAD_CONFIG,
            {"config": None, **said, "label2id": numbered, "name": None, "num_labels": len(labels)},
        )
        _tensors(folder, HEAD, {key: tensor for key, tensor in state.items() if heads.in_head(key)})


def _class_of(shape: ModelShape, classifies: bool) -> str:
    """Which class of transformers the library has to be given."""
    from transformers.models.auto import modeling_auto as auto

    tables: Mapping[str, Any] = {
        "encoder": auto.MODEL_MAPPING_NAMES, "causal-lm": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "seq2seq": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    }  # fmt: skip
    table = auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES if classifies else tables[shape.kind]
    return str(table[shape.model_type])


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True), "utf-8")


def _tensors(folder: Path, files: tuple[str, str], state: Mapping[str, torch.Tensor]) -> None:
    import torch
    from safetensors.torch import save_file

    safe, pickled = (folder / name for name in files)
    save_file(dict(state), str(safe))
    torch.save(dict(state), pickled)
