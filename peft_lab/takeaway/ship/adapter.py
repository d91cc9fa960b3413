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
from typing import Any, BinaryIO, cast

import numpy as np

from peft_lab.core import asking, disk, units
from peft_lab.core.errors import BadInput, echoed, in_short
from peft_lab.models import own
from peft_lab.models.assets.store import HUB_ID
from peft_lab.runs import store

LARGEST = 2 << 30  # bytes of an adapter file
LARGEST_TEXT = 64 << 20  # bytes of a config or a log
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library, too
CONFIG, WEIGHTS, STATE = "adapter_config.json", "adapter_model.safetensors", "trainer_state.json"
TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json")
WANTED = (CONFIG, WEIGHTS, STATE, *TOKENIZER)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

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
    """Return every tensor of a file with the range of its entries. An empty file has none.

    Raises:
        BadInput: the file is not a safetensors file, or is damaged.
    """
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


def read_header(name: str, file: BinaryIO, size: int) -> dict[str, StoredTensor]:
    """Return every tensor of a safetensors file from its header; no weight is read.

    Args:
        file: open at its start. size: of the whole file, in bytes.

    Raises:
        BadInput: the file is not a safetensors file, or is shorter than its header says.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise _damaged(name, "its header does not fit in the file")
    try:
        entries = disk.parse_json(file.read(length))
        entries.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
        tensors = {
            key: StoredTensor(tuple(map(int, entry["shape"])), str(entry["dtype"]))
            for key, entry in entries.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(name, error) from error
    if max(ends, default=0) + length + 8 != size or any(
        side < 0 for tensor in tensors.values() for side in tensor.shape
    ):
        raise _damaged(name, f"its header describes another size than {size:,} bytes")
    return tensors


def _damaged(name: str, why: object) -> BadInput:
    return BadInput(f"{name} is an incomplete or damaged safetensors file: {str(why)[:120]}.", "adapter")


def read_json(name: str, content: bytes) -> Any:
    """Return the content of a JSON file. Raises :class:`BadInput`."""
    if len(content) > LARGEST_TEXT:
        raise BadInput(f"{name} is too large to be a config or a log of text.")
    try:
        return disk.parse_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text.") from error
    except ValueError as error:
        raise BadInput(f"{name} is not valid JSON: {str(error)[:120]}.") from error


def refuse(names: Iterable[str]) -> None:
    """Raise :class:`BadInput` for a folder without weights that can be read safely."""
    names = sorted(names)
    if WEIGHTS in names:
        return
    pickled = [name for name in names if name.endswith(PICKLES) and name != "training_args.bin"]
    if pickled:
        raise BadInput(
            f"{pickled[0]} is a pickle, which can run code when opened, so it is not read. Save the adapter with "
            "save_pretrained(..., safe_serialization=True).",
            "adapter",
        )
    raise BadInput(f"The adapter folder has no {WEIGHTS}. Add this file.", "adapter")


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of an adapter folder that are read. Raises :class:`BadInput`."""
    names = _names(folder)
    refuse(names)
    return {name: _take(folder, name) for name in names if name in WANTED}


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(disk.folder(folder, "adapter")) if entry.is_file())


def _most(name: str) -> int:
    return LARGEST if name == WEIGHTS else LARGEST_TEXT


def _take(folder: Path, name: str) -> bytes:
    return disk.take(folder / name, _most(name), "adapter")


# ----------------------------------------
# An adapter: a run's, a folder, a zip of one, an upload, or one on the hub.


@dataclass(frozen=True)
class Adapter:
    """One stored adapter.

    Attributes:
        name: a run's id, a hub id, or the last part of a path.
        config: ``adapter_config.json``. tensors: by the names that they are stored by, without ranges.
        names: of its files. take: returns the bytes of one of them.
        base: the model that it was trained on, as the run or else the config names it; empty if neither does.
        folder: where it lies on this machine; ``None`` for a zip, an upload and the hub.
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
        return str(self.config.get("peft_type") or "").rpartition(".")[2].upper()

    @property
    def entries(self) -> int:
        """Return the number of stored entries."""
        return sum(tensor.size for tensor in self.tensors.values())


#: Opens one file of an adapter; yields the stream and the file's size in bytes.
Opened = Callable[[str], AbstractContextManager[tuple[BinaryIO, int]]]


def read(source: str | Path) -> Adapter:
    """Return the adapter of a run (by id), a PEFT folder, a zip of one, or a Hugging Face id.

    Raises:
        BadInput: there is none, or it cannot be read. RunError: the run's folder is damaged.
    """
    name = str(source)
    if disk.is_identity(name) and (store.root() / name / "spec.json").is_file():
        run = store.get(name)
        if not run.adapter.is_dir():
            raise BadInput(f"The run '{name}' has no adapter yet.", "adapter")
        return _of_folder(name, run.adapter, run.spec.model)
    if own.is_folder(name):
        return _of_folder(Path(name).resolve().name, Path(name))
    if name.lower().endswith(".zip") and not asking.hidden_folder(name):
        return _of_zip(Path(name).name, lambda: disk.opened(Path(name)))
    if HUB_ID.fullmatch(name) and not asking.class_is_on():
        return _of_hub(name)
    raise BadInput(
        f"'{echoed(name, 200)}' is neither a run, an adapter's folder or zip file, nor a Hugging Face id.",
        "adapter",
    )


def from_files(name: str, files: Mapping[str, bytes]) -> Adapter:
    """Return the adapter of uploaded files, by name: those of a folder, or one zip. Raises :class:`BadInput`."""
    packed = next((each for each in files if each.lower().endswith(".zip")), "")
    if packed and WEIGHTS not in files:
        return _of_zip(packed, lambda: io.BytesIO(files[packed]))

    @contextmanager
    def opened(file: str) -> Iterator[tuple[BinaryIO, int]]:
        yield io.BytesIO(files[file]), len(files[file])

    return _made(name, files, opened)


def _made(
    name: str, names: Iterable[str], opened: Opened, base: str = "", folder: Path | None = None
) -> Adapter:
    names = tuple(names)
    refuse(names)
    if CONFIG not in names:
        raise BadInput(
            f"The adapter has no {CONFIG}, so its type and rank are not known. Add this file.", "adapter"
        )

    def take(file: str) -> bytes:
        try:
            with opened(file) as (stream, size):
                if size > _most(file):
                    raise BadInput(f"{file} is too large (more than {units.size(_most(file))}).", "adapter")
                return stream.read(size)
        except (OSError, zipfile.BadZipFile) as error:
            raise BadInput(f"{file} of {name} cannot be read: {error}.", "adapter") from error

    config = read_json(CONFIG, take(CONFIG))
    if not isinstance(config, dict):
        raise BadInput(f"{CONFIG} contains no JSON object.", "adapter")
    try:
        with opened(WEIGHTS) as (stream, size):
            tensors = read_header(WEIGHTS, stream, size)
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{WEIGHTS} of {name} cannot be read: {error}.", "adapter") from error
    named = config.get("base_model_name_or_path")
    return Adapter(
        name, config, tensors, names, take, base or (named if isinstance(named, str) else ""), folder
    )


def _of_folder(name: str, folder: Path, base: str = "") -> Adapter:
    @contextmanager
    def opened(file: str) -> Iterator[tuple[BinaryIO, int]]:
        with disk.opened(folder / file) as stream:
            yield stream, os.fstat(stream.fileno()).st_size

    return _made(name, _names(folder), opened, base, folder.resolve())


def _of_zip(name: str, packed: Callable[[], AbstractContextManager[BinaryIO]]) -> Adapter:
    """Return the adapter in the outermost folder of a zip that holds its config or its weights."""

    @contextmanager
    def archive() -> Iterator[zipfile.ZipFile]:
        with packed() as file, disk.unzipping(), zipfile.ZipFile(file) as unpacked:
            yield unpacked

    try:
        with archive() as unpacked:
            inside = [PurePosixPath(entry) for entry in unpacked.namelist() if not entry.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{name} cannot be read as a zip file: {error}.", "adapter") from error
    held = [path for path in inside if path.name in (CONFIG, WEIGHTS)] or inside
    place = min(
        (path.parent for path in held), key=lambda path: (len(path.parts), path), default=PurePosixPath()
    )

    @contextmanager
    def opened(file: str) -> Iterator[tuple[BinaryIO, int]]:
        with archive() as unpacked:
            entry = unpacked.getinfo(str(place / file))
            with unpacked.open(entry) as stream:
                yield cast("BinaryIO", stream), entry.file_size

    return _made(name, [path.name for path in inside if path.parent == place], opened)


def _of_hub(name: str) -> Adapter:
    """Return the adapter of a Hugging Face id. Missing files are fetched if the hub can be reached."""
    from huggingface_hub import HfApi, hf_hub_download

    find = own.finder(name)
    names = [file for file in WANTED if find(file)]
    if not {CONFIG, WEIGHTS} <= set(names):
        if not own.hub_answers():
            raise BadInput(
                f"The adapter '{name}' is not in this machine's cache and the Hugging Face Hub was not reached. "
                "Give its folder or a zip of it.",
                "adapter",
            )
        try:
            names = HfApi().list_repo_files(name)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"The adapter '{name}' cannot be fetched: {in_short(error)}.", "adapter"
            ) from error

    @contextmanager
    def opened(file: str) -> Iterator[tuple[BinaryIO, int]]:
        place = find(file) or Path(hf_hub_download(name, file))
        with disk.opened(place) as stream:
            yield stream, os.fstat(stream.fileno()).st_size

    return _made(name, names, opened)
