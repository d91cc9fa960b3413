"""Read a stored adapter without torch: its config, and the name, shape and precision of each tensor from the file's
header. Nothing is unpickled, nothing is run.

Start with :func:`read`, or :func:`from_files` for an upload. What cannot be read is refused in one sentence.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np

from peft_lab.core import asking, disk, units
from peft_lab.core.disk import HUB_ID
from peft_lab.core.errors import BadInput, echoed, in_short
from peft_lab.models import own
from peft_lab.runs import store

LARGEST = 2 << 30  # bytes of an adapter file
LARGEST_TEXT = 64 << 20  # bytes of a config, a log or a header
CONFIG, WEIGHTS, STATE = "adapter_config.json", "adapter_model.safetensors", "trainer_state.json"
TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json")
WANTED = (CONFIG, WEIGHTS, STATE, *TOKENIZER)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

T = TypeVar("T")

# ----------------------------------------
# Tensors: by the header alone, or with the range of their entries.


_PLAIN = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """One tensor.

    Attributes:
        dtype: as safetensors writes it (F32, BF16 ...).
        low, high: smallest and largest finite entry; ``None`` if there is none, or if only the header was read.
        finite: share of the entries that are finite; 1 for a precision whose entries are not read here, as F8.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float | None = None
    high: float | None = None
    finite: float = 1.0

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return math.prod(self.shape)

    @property
    def zero(self) -> bool:
        """Return whether all entries are zero; False without entries."""
        return self.finite == 1 and self.low == 0 == self.high


def read_tensors(name: str, content: bytes) -> dict[str, StoredTensor]:
    """Return every tensor of a file with the range of its entries. An empty file has none. Raises BadInput if the file
    is not a safetensors file, or is damaged."""
    import safetensors

    parse: Any = safetensors.deserialize  # untyped
    if not content:
        return {}
    try:
        found: list[tuple[str, Mapping[str, Any]]] = parse(content)
        return {key: _tensor(entry) for key, entry in found}
    except (safetensors.SafetensorError, ValueError) as error:
        raise _damaged(name, error) from error


def _tensor(entry: Mapping[str, Any]) -> StoredTensor:
    shape, dtype, data = tuple(entry["shape"]), str(entry["dtype"]), entry["data"]
    if dtype == "BF16":
        raw = np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16
        values = raw.view(np.float32)
    elif dtype in _PLAIN:
        values = np.frombuffer(data, dtype=_PLAIN[dtype])
    else:
        return StoredTensor(shape, dtype)
    good = values[np.isfinite(values)]
    share = 1.0 if not len(values) else len(good) / len(values)
    if not len(good):
        return StoredTensor(shape, dtype, None, None, share)
    return StoredTensor(shape, dtype, float(good.min()), float(good.max()), share)


def read_header(name: str, file: BinaryIO) -> dict[str, StoredTensor]:
    """Return every tensor of an open safetensors file from its header; no weight is read. An empty file has none.
    Raises BadInput if the file is not a safetensors file, or has another size than its header says."""
    if not (size := file.seek(0, os.SEEK_END)):
        return {}
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    try:
        entries = disk.parse_json(file.read(length if length <= LARGEST_TEXT else 0))
        entries.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
        tensors = {
            key: StoredTensor(tuple(map(int, entry["shape"])), str(entry["dtype"]))
            for key, entry in entries.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(name, error) from error
    if max(ends, default=0) + length + 8 != size:
        raise _damaged(name, f"its header describes another size than {size:,} bytes")
    return tensors


def _damaged(name: str, why: object) -> BadInput:
    return BadInput(f"{name} is an incomplete or damaged safetensors file: {str(why)[:120]}.", "adapter")


def read_json(name: str, content: bytes) -> Any:
    """Return the content of a JSON file. Raises :class:`BadInput`."""
    if len(content) > LARGEST_TEXT:
        raise BadInput(f"{name} is too large for a config or a text log.")
    try:
        return disk.parse_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text.") from error
    except ValueError as error:
        raise BadInput(f"{name} is not valid JSON: {str(error)[:120]}.") from error


# ----------------------------------------
# An adapter: a run's, a folder, a zip of one, an upload, or one on the hub.


@dataclass(frozen=True)
class Adapter:
    """One stored adapter.

    Attributes:
        name: a run's id, a hub id, or the last part of a path.
        config: ``adapter_config.json``; empty without one. tensors: by their stored names, without ranges.
        names: of its files. take: returns the bytes of one of them.
        base: the model that it was trained on, as the run or else the config names it; empty if neither does.
        folder: where it lies on this machine; ``None`` for a zip and an upload.
    """

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    names: tuple[str, ...]
    take: Callable[[str], bytes] = field(repr=False, compare=False)
    base: str = ""
    folder: Path | None = None

    @property
    def type(self) -> str:
        """Return PEFT's name of the type in upper case, such as ``LORA``; empty if the config has none."""
        return str(self.config.get("peft_type") or "").upper()


def read(source: str | Path) -> Adapter:
    """Return the adapter of a run (by id), a PEFT folder, a zip of one, or a Hugging Face id. Raises BadInput if there
    is none, or it cannot be read; RunError if the run's folder is damaged."""
    name = str(source)
    if disk.is_identity(name) and (store.root() / name / "spec.json").is_file():
        run = store.get(name)
        if not run.adapter.is_dir():
            raise BadInput(f"The run '{name}' has no adapter yet.", "adapter")
        return of_folder(run.adapter, name, run.spec.model)
    if own.is_folder(name):
        return of_folder(Path(name))
    if name.lower().endswith(".zip") and not asking.hidden_folder(name):
        return _of_zip(Path(name).name, lambda: disk.opened(Path(name)))
    if not HUB_ID.fullmatch(name) or asking.class_is_on():
        raise BadInput(
            f"'{echoed(name, 200)}' is neither a run, nor an adapter's folder, zip file or Hugging Face id.",
            "adapter",
        )
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, allow_patterns=[*WANTED, "*.jinja"], local_files_only=not own.hub_answers()
        )
    except (OSError, ValueError) as error:
        raise BadInput(f"The adapter '{name}' cannot be fetched: {in_short(error)}.", "adapter") from error
    return of_folder(Path(folder), name)


def from_files(name: str, files: Mapping[str, bytes]) -> Adapter:
    """Return the adapter of uploaded files, by name: those of a folder, or one zip. Raises :class:`BadInput`."""
    packed = next((each for each in files if each.lower().endswith(".zip")), "")
    if packed and WEIGHTS not in files:
        return _of_zip(packed, lambda: io.BytesIO(files[packed]))
    return _made(name, files, lambda file: io.BytesIO(files[file]))


def of_folder(folder: Path, name: str = "", base: str = "") -> Adapter:
    """Return the adapter in a folder. ``name``, ``base``: as in :class:`Adapter`. Raises :class:`BadInput`."""
    place = disk.folder(folder, "adapter")
    names = sorted(entry.name for entry in os.scandir(place) if entry.is_file())
    return _made(name or place.name, names, lambda file: disk.opened(place / file), base, place)


def _of_zip(name: str, packed: Callable[[], AbstractContextManager[BinaryIO]]) -> Adapter:
    """Return the adapter in the outermost folder of a zip that holds its config or its weights."""

    @contextmanager
    def opened(file: str) -> Iterator[BinaryIO]:
        with (
            packed() as whole,
            disk.unzipping(),
            zipfile.ZipFile(whole) as archive,
            archive.open(str(place / file)) as stream,
        ):
            yield cast("BinaryIO", stream)

    try:
        with packed() as whole, disk.unzipping(), zipfile.ZipFile(whole) as archive:
            inside = [PurePosixPath(entry) for entry in archive.namelist() if not entry.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{name} cannot be read as a zip file: {error}.", "adapter") from error
    held = [path.parent for path in inside if path.name in (CONFIG, WEIGHTS)] or [PurePosixPath()]
    place = min(held, key=lambda path: (len(path.parts), path))
    return _made(name, [path.name for path in inside if path.parent == place], opened)


def _made(
    name: str,
    names: Iterable[str],
    opened: Callable[[str], AbstractContextManager[BinaryIO]],
    base: str = "",
    folder: Path | None = None,
) -> Adapter:
    """Return the adapter of these files. Raises BadInput for one without weights that can be read safely."""
    names = tuple(names)
    pickled = [file for file in names if file.endswith(PICKLES) and file != "training_args.bin"]
    if WEIGHTS not in names and pickled:
        raise BadInput(
            f"{pickled[0]} is a pickle, which can run code when opened, so it is not read. Save the adapter with "
            "save_pretrained(..., safe_serialization=True).",
            "adapter",
        )
    if WEIGHTS not in names:
        raise BadInput(f"The adapter folder has no {WEIGHTS}. Add this file.", "adapter")

    def using(file: str, use: Callable[[BinaryIO], T]) -> T:
        try:
            with opened(file) as stream:
                return use(stream)
        except (OSError, zipfile.BadZipFile) as error:
            raise BadInput(f"{file} of {name} cannot be read: {error}.", "adapter") from error

    def take(file: str) -> bytes:
        most = LARGEST if file == WEIGHTS else LARGEST_TEXT
        content = using(file, lambda stream: stream.read(most + 1))
        if len(content) > most:
            raise BadInput(f"{file} is too large (more than {units.size(most)}).", "adapter")
        return content

    config = read_json(CONFIG, take(CONFIG)) if CONFIG in names else {}
    if not isinstance(config, dict):
        raise BadInput(f"{CONFIG} contains no JSON object.", "adapter")
    tensors = using(WEIGHTS, lambda stream: read_header(WEIGHTS, stream))
    return Adapter(
        name, config, tensors, names, take, base or str(config.get("base_model_name_or_path") or ""), folder
    )
