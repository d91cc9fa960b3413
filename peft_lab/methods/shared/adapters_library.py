"""Read and write folders of the adapters library (release 1.3.0): its config and tensors.

    adapter_config.json     config, hidden_size, model_class, model_name, model_type, name, version
    adapter.safetensors     or pytorch_adapter.bin, the same tensors
    head_config.json, model_head.safetensors or pytorch_model_head.bin      of a classifier

Its weights are stored beside the module they adapt, ours under it:

    bert      encoder.layer.0.output.adapters.NAME.adapter_down.0       encoder.layer.0.output.dense.bottleneck.down
    llama     model.layers.0.output_adapters.adapters.NAME.adapter_up   model.layers.0.mlp.down_proj.bottleneck.up
    t5        encoder.block.0.layer.1.adapters.NAME.adapter_up          ...layer.1.DenseReluDense.wo.bottleneck.up

The first part handles the config; the second, further below, reads and writes files and tensors.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_lab.core import asking, disk, units
from peft_lab.core.content import read_entry
from peft_lab.core.errors import BadInput
from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.shared import bottleneck, peft_backed
from peft_lab.models import shapes
from peft_lab.models.catalogue import misshapen
from peft_lab.models.heads import CLASSIFYING, TaskType
from peft_lab.models.shapes import ModelShape

VERSION = "adapters.1.3.0"
FIELD = "adapter"


@dataclass(frozen=True)
class _Plain:
    value: Any
    called: str


@dataclass(frozen=True)
class _Written:
    """How the library writes adapters, as ``adapters_library.yaml`` states it."""

    places: Mapping[str, tuple[bool, ...]]
    plain: Mapping[str, _Plain]
    defaults: Mapping[str, Any]
    architectures: Mapping[str, str]
    functions: Mapping[str, str]
    old_functions: Mapping[str, str]


_WRITTEN = read_entry(Path(__file__).with_suffix(".yaml"), _Written)
_DECIDES = ("mh_adapter", "output_adapter", "original_ln_before", "is_parallel")
PARTS: Mapping[str, str] = {"down": "adapter_down.0", "up": "adapter_up"}
PREFIXES = ("bert.", "roberta.", "model.", "transformer.")


def is_library(content: Any) -> bool:
    """Return whether this is the content of an ``adapter_config.json`` that the adapters library wrote."""
    return isinstance(content, Mapping) and "config" in content and "peft_type" not in content


def values_of(content: Mapping[str, Any], shape: ModelShape) -> dict[str, Any]:
    """Return the knobs that a library's config stands for on a model. Raises BadInput: the config uses features not
    built here, or is another model's."""
    config = content.get("config")
    if not isinstance(config, Mapping):
        raise BadInput("The adapters library's config has no settings (its 'config' is empty).", FIELD)
    architecture = config.get("architecture")
    if architecture is not None:
        raise _unbuilt(_WRITTEN.architectures.get(str(architecture), f"'{str(architecture)[:40]}'"))
    for name, value in _plain().items():
        if config.get(name, value) != value:
            raise _unbuilt(_WRITTEN.plain[name].called)
    decides = {name: bool(config.get(name, False)) for name in _DECIDES}
    placements = {wanted: placement for placement, wanted in _WRITTEN.places.items()}
    placement = placements.get(tuple(decides.values()))
    if placement is None:
        listed = ", ".join(f"{name} {value}" for name, value in decides.items())
        raise _unbuilt(f"a custom placement ({listed})")
    kind, hidden = content.get("model_type"), content.get("hidden_size")
    if kind != shape.model_type or hidden != shape.hidden:
        raise BadInput(
            f"This adapter was made for a {kind} model of width {hidden}, but {shape.title} is a {shape.model_type} "
            f"of width {shape.hidden}.",
            FIELD,
        )
    named = str(config.get("non_linearity")).lower()
    function = named if "version" in content else _WRITTEN.old_functions.get(named, named)
    if function not in _WRITTEN.functions:
        raise _unbuilt(f"an adapter with the function {function[:40]}")
    values: dict[str, Any] = {
        "placement": placement,
        "bottleneck": _width(config.get("reduction_factor"), shape),
        "nonlinearity": _WRITTEN.functions[function],
    }
    scaling = config.get("scaling", 1.0)
    if isinstance(scaling, bool) or not isinstance(scaling, int | float):
        raise _unbuilt("an adapter that learns its scale")
    if placement in bottleneck.SCALED:
        values["scale"] = float(scaling)
    elif scaling != 1.0:
        raise _unbuilt(f"{placement} with its output multiplied by {scaling:g}")
    return values


def _plain() -> dict[str, Any]:
    """Return the settings that must have these values, as JSON has them."""
    return {
        name: list(one.value) if isinstance(one.value, tuple) else one.value
        for name, one in _WRITTEN.plain.items()
    }


def _unbuilt(what: str) -> BadInput:
    known = ", ".join(bottleneck.LIBRARY)
    return BadInput(
        f"This folder of the adapters library contains {what}. PEFT Lab can open {known} with their default settings.",
        FIELD,
    )


def _width(factor: Any, shape: ModelShape) -> int:
    """Return the adapter width, computed as in the library; refuse a factor that differs by layer."""
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 0:
        raise _unbuilt(
            "an adapter whose width differs by layer" if isinstance(factor, Mapping) else "no width"
        )
    return max(1, int(shape.hidden // factor))


def same_in_library(shape: ModelShape, placement: str) -> str | None:
    """Return the library's placement that computes the same on this model; ``None`` if there is none."""
    if not bottleneck.host_places(shape, "seq_bn"):
        return None
    if placement in bottleneck.LIBRARY:
        return placement
    after = shape.model_type in ("bert", "roberta", "xlm-roberta")
    same = {"houlsby": shape.kind != "seq2seq", "parallel": after}
    names = {"houlsby": "double_seq_bn", "parallel": "par_bn"}
    return names[placement] if same.get(placement) else None


def content_of(
    shape: ModelShape, values: Values, name: str, model_class: str, model_name: str
) -> dict[str, Any]:
    """Return the ``adapter_config.json`` that the library writes for these settings.

    Args:
        values: complete. name: of the adapter. model_class: of transformers. model_name: id or folder of the base.

    Raises:
        BadInput: the library lacks this placement on this model.
    """
    placement = same_in_library(shape, values["placement"])
    if placement is None:
        raise BadInput(
            f"On {shape.title}, the adapters library has no placement equal to {values['placement']}; "
            + (
                f"train with {', '.join(bottleneck.LIBRARY)}."
                if bottleneck.host_places(shape, "seq_bn")
                else "none is known."
            ),
            "placement",
        )
    functions = {ours: theirs for theirs, ours in _WRITTEN.functions.items()} | {"silu": "swish"}
    parallel = placement == "par_bn"
    config = {
        **_WRITTEN.defaults,
        **_plain(),
        **dict(zip(_DECIDES, _WRITTEN.places[placement], strict=True)),
        "init_weights": "mam_adapter" if parallel else "bert",
        "non_linearity": functions[values["nonlinearity"]],
        "reduction_factor": _factor(shape.hidden, values["bottleneck"]),
        "scaling": float(values["scale"]) if parallel else 1.0,
    }
    return {"config": config, **about(shape, model_class, model_name), "name": name}


def about(shape: ModelShape, model_class: str, model_name: str) -> dict[str, Any]:
    """Return what the library states about the model in every config."""
    return {
        "hidden_size": shape.hidden, "model_class": model_class, "model_name": model_name,
        "model_type": shape.model_type, "version": VERSION,
    }  # fmt: skip


def _factor(hidden: int, width: int) -> float:
    """Return a factor for which the library computes that width: it rounds the quotient down."""
    exact = hidden / width
    return exact if int(hidden // exact) == width else hidden / (width + 0.5)


def theirs(model_type: str, host: str, name: str) -> str:
    """Return the library's path of a host's adapter."""
    parts = host.split(".")
    if model_type in ("bert", "roberta", "xlm-roberta"):
        return ".".join([*parts[:-1], "adapters", name])
    if model_type == "t5":
        return ".".join([*parts[:-2], "adapters", name])
    where = "attention_adapters" if "attn" in parts[-2] else "output_adapters"
    return ".".join([*parts[:-2], where, "adapters", name])


def names(shape: ModelShape, hosts: Iterable[str], name: str) -> dict[str, str]:
    """Return the library's name of each tensor by ours. ``hosts``: their paths in the model that holds the adapter."""
    return {
        f"{host}.{bottleneck.CHILD}.{part}.{kind}": f"{theirs(shape.model_type, host, name)}.{called}.{kind}"
        for host in hosts
        for part, called in PARTS.items()
        for kind in ("weight", "bias")
    }


def bare(name: str) -> str:
    """Return a tensor's name without the model's prefix, in which a bare model and one with a head differ.

    >>> bare("bert.encoder.layer.0.output.adapters.here.adapter_up.bias")
    'encoder.layer.0.output.adapters.here.adapter_up.bias'
    """
    prefix = next((each for each in PREFIXES if name.startswith(each)), "")
    return name.removeprefix(prefix)


# ----------------------------------------
# Save an adapter as a folder that the adapters library can load, and load its folders onto a model.
#
# Weights are written twice, as ``load_adapter(folder)`` reads one file and ``load_adapter(folder,
# use_safetensors=True)`` the other. When reading, safetensors are preferred; a ``.bin`` is read only without them, with
# torch's tensors-only reader, and never in a class.


CONFIG, HEAD_CONFIG = peft_backed.CONFIG_FILE, "head_config.json"
WEIGHTS, HEAD = (
    ("adapter.safetensors", "pytorch_adapter.bin"),
    ("model_head.safetensors", "pytorch_model_head.bin"),
)
FILES = (CONFIG, HEAD_CONFIG, *WEIGHTS, *HEAD)
#: Limit for one file: adapters of the models here have a few megabytes.
MAX_BYTES = 500_000_000
NAME = "default"


def read_content(place: Path) -> dict[str, Any]:
    """Return the content of the config in a folder, or in a zip of one. Raises BadInput: there is none, or it is not of
    the adapters library."""
    content = _bytes(place, CONFIG)
    if content is None:
        raise BadInput(f"There is no {CONFIG} in {place.name}.", FIELD)
    try:
        found: Any = disk.parse_json(content)
    except ValueError as error:
        raise BadInput(f"The {CONFIG} in {place.name} is not valid JSON.", FIELD) from error
    if not is_library(found):
        raise BadInput(f"The {CONFIG} in {place.name} is not a config of the adapters library.", FIELD)
    return dict(found)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Pack a folder's files as one zip, equal files as equal bytes; files that are not the library's are left out."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in FILES:
            if name in files:
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    return made.getvalue()


def packed(place: Path) -> bytes:
    """Return :func:`pack` of the files in a folder, or in a zip of one. Raises BadInput if it cannot be read."""
    found = {name: _bytes(place, name) for name in FILES}
    return pack({name: content for name, content in found.items() if content is not None})


def held_files(place: Path) -> frozenset[str]:
    """Return which of the library's files a folder holds, or a zip of one. Raises BadInput if it cannot be read."""
    return frozenset(name for name in FILES if _bytes(place, name) is not None)


def _bytes(place: Path, name: str) -> bytes | None:
    """Return the content of a file of the folder or zip; ``None`` if there is none of that name. Raises BadInput."""
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
                    f"{name} in {place.name} is not compressed with deflate. Pack the folder as a plain zip, or give "
                    "the folder.",
                    FIELD,
                )
            return archive.read(entry)
    except (OSError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"{name} in {place.name} cannot be read: {reason}.", FIELD) from error


def _require_small(name: str, size: int) -> None:
    if size > MAX_BYTES:
        said, most = units.unlike(size, MAX_BYTES)
        raise BadInput(f"{name} has {said}; the limit is {most}.", FIELD)


def put_adapter(model: torch.nn.Module, shape: ModelShape, folder: Path, task_type: TaskType) -> None:
    """Copy the tensors of a folder into the adapter on a model, and into the model's head if it classifies.

    The adapter must have been applied with the values that :func:`values_of` returns for the same folder.

    Raises:
        BadInput: the folder is of another kind, tensors are missing or surplus, or the head is another model's.
    """
    content = read_content(folder)
    own = bottleneck.parameters_of(model, NAME)
    hosts = [path.rpartition(f".{bottleneck.CHILD}.")[0] for path in own]
    wanted = names(shape, dict.fromkeys(hosts), str(content.get("name")))
    state = {bare(key): tensor for key, tensor in _read(folder, WEIGHTS).items()}
    expected = {bare(theirs): ours for ours, theirs in wanted.items()}
    if odd := sorted(state.keys() ^ expected.keys()):
        what = "lacks" if odd[0] in expected else "also holds"
        raise BadInput(
            f"The weights in this folder do not match its config: the folder {what} '{odd[0]}'.", FIELD
        )
    peft_backed.require_same({theirs: own[ours] for theirs, ours in expected.items()}, state)
    peft_backed.copy_into(own, {ours: state[theirs] for theirs, ours in expected.items()})
    _put_head(model, folder, task_type)


def _put_head(model: torch.nn.Module, folder: Path, task_type: TaskType) -> None:
    if all(_bytes(folder, name) is None for name in HEAD):
        if task_type in CLASSIFYING:
            raise BadInput(
                "This folder has no classification head (model_head.safetensors), so it cannot classify. Use "
                "with_head=True.",
                FIELD,
            )
        return
    state, parameters = _read(folder, HEAD), dict(model.named_parameters())
    if any(key.startswith("heads.") for key in state):
        raise BadInput(
            "The head in this folder is from AutoAdapterModel. PEFT Lab opens heads of transformers' own classes "
            "(AutoModelForSequenceClassification with adapters.init).",
            FIELD,
        )
    if task_type in CLASSIFYING:
        own = {key: value for key, value in parameters.items() if shapes.in_head(key)}
        if odd := sorted(state.keys() ^ own.keys()):
            raise BadInput(f"The head in this folder belongs to another model: '{odd[0]}'.", FIELD)
        peft_backed.copy_into(own, state)
        return
    for key, tensor in state.items():
        known = parameters.get(key)
        if known is not None and known.shape != tensor.shape:
            raise misshapen("This folder", key, tensor.shape, known.shape, FIELD)
        if known is not None and not torch.equal(known, tensor.to(known.dtype)):
            raise BadInput(
                f"This folder has its own output head: '{key}' differs from the base's, and PEFT Lab does not "
                "replace the base's head.",
                FIELD,
            )


def labels_of(folder: Path) -> tuple[str, ...]:
    """Return the labels of a folder's head in order; empty if it names none."""
    try:
        content = disk.parse_json(_bytes(folder, HEAD_CONFIG) or b"{}")
        numbers = content.get("label2id") or {}
        return tuple(sorted(numbers, key=lambda label: int(numbers[label])))
    except (ValueError, AttributeError, TypeError):
        return ()


def _read(folder: Path, files: tuple[str, str]) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    safe, pickled = files
    name, content = safe, _bytes(folder, safe)
    try:
        if content is not None:
            return load(content)
        name, content = pickled, _bytes(folder, pickled)
        if content is None:
            raise BadInput(f"There is neither {safe} nor {pickled} in {folder.name}.", FIELD)
        if asking.class_is_on():
            raise BadInput(f"In a class only {safe} is read. Save with use_safetensors=True.", FIELD)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except Exception as error:  # the two readers raise errors of any kind on a damaged file
        raise BadInput(f"{name} cannot be read: {str(error).splitlines()[0][:200]}", FIELD) from error
    if not isinstance(state, Mapping) or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise BadInput(f"{name} does not contain named tensors.", FIELD)
    return dict(state)


def write_files(
    folder: Path, saved: Path, shape: ModelShape, values: Mapping[str, Any], name: str, model_name: str,
    labels: tuple[str, ...] = (), per_token: bool = False,
) -> None:  # fmt: skip
    """Write the library's folder for an adapter that was saved here.

    Args:
        folder: created if missing. saved: the adapter's folder. name: of the adapter, without a dot.
        labels: of a classifier, in order. per_token: it labels every token rather than the row.

    Raises:
        BadInput: the library lacks this placement on this model.
    """
    config, state = peft_backed.read_any_config(saved), peft_backed.read_state(saved)
    hosts = [place[0] for place in config["hosts"]]
    wanted = names(shape, hosts, name)
    model_class = _class_of(shape, bool(labels), per_token)
    content = content_of(shape, values, name, model_class, model_name)
    folder.mkdir(parents=True, exist_ok=True)
    _json(folder / CONFIG, content)
    _tensors(folder, WEIGHTS, {theirs: state[ours] for ours, theirs in wanted.items()})
    if labels:
        numbered = {label: number for number, label in enumerate(labels)}
        said = about(shape, model_class, model_name)
        _json(
            folder / HEAD_CONFIG,
            {"config": None, **said, "label2id": numbered, "name": None, "num_labels": len(labels)},
        )
        _tensors(folder, HEAD, {key: tensor for key, tensor in state.items() if shapes.in_head(key)})


def _class_of(shape: ModelShape, classifies: bool, per_token: bool) -> str:
    """Return the name of the transformers class that the library expects."""
    from transformers.models.auto import modeling_auto as auto

    tables: Mapping[str, Any] = {
        "encoder": auto.MODEL_MAPPING_NAMES, "causal-lm": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "seq2seq": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    }  # fmt: skip
    heads = auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    if per_token:
        heads = auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES
    table = heads if classifies else tables[shape.kind]
    return str(table[shape.model_type])


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True), "utf-8")


def _tensors(folder: Path, files: tuple[str, str], state: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    safe, pickled = (folder / name for name in files)
    save_file(dict(state), str(safe))
    torch.save(dict(state), pickled)
