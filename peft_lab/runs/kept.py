"""Read back the files that a run leaves behind: each is as the run wrote it, or is reported as damaged. Forecasts are
kept beside the measured times.

The record holds the SHA-256 of the other files; without it, as in earlier versions, they are not checked.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

from peft_lab.classroom import places
from peft_lab.core import disk, machine, units
from peft_lab.core.content import misfit
from peft_lab.core.errors import BadInput, RunError, UnreadableFile
from peft_lab.drawing.trajectory import format as trajectories
from peft_lab.drawing.trajectory.format import Trajectory
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.models import catalogue as models
from peft_lab.models import own
from peft_lab.models.assets import fetching
from peft_lab.models.assets import store as assets
from peft_lab.models.assets.fetching import sha256
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs import measuring
from peft_lab.runs.spec import RunSpec
from peft_lab.training import tasks
from peft_lab.training.tasks import pictures
from peft_lab.training.tasks.base import Task

T = TypeVar("T")
RECORD, INSIGHT, ARRAYS, ADAPTER = "record.json", "insight.json", "insight.npz", "adapter"
TRAJECTORY = "trajectory.json"
_SCRATCH = f".{ADAPTER}"
_HALF = (f".{TRAJECTORY}*", f".{ARRAYS}*", ".checkpoint*")  # files being written, renamed once complete


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON object from a run's folder. Raises RunError if there is none."""
    try:
        content = disk.read_json(folder / name)
    except UnreadableFile as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise RunError(f"'{folder.name}' has no {name}.") from None
        raise RunError(f"{name} of '{folder.name}' cannot be read ({error.__cause__}).") from error
    if not isinstance(content, dict):
        raise RunError(f"{name} of '{folder.name}' contains no settings.")
    return content


def kept_record(folder: Path) -> dict[str, Any]:
    """Return an ended run's record (record.py), ``{}`` before it has ended. Raises RunError if unreadable."""
    if not (folder / RECORD).exists():
        return {}
    content = read_json(folder, RECORD)
    wrong = (
        misfit(_FIELDS, content)
        or (misfit(_METRIC, content["metric"]) and "metric")
        or (misfit(dict.fromkeys(_MEMORY, float | None), content.get("memory") or {}) and "memory")
    )
    if wrong:
        raise RunError(f"{RECORD} of '{folder.name}' cannot be read (no usable '{wrong}').")
    return content


def kept_insight(folder: Path) -> dict[str, Any]:
    """Return the data for the method's own picture, ``{}`` without any. Raises RunError if damaged."""
    require_sound(folder, ARRAYS)
    return _kept(folder, INSIGHT, lambda: read_json(folder, INSIGHT), {})


def kept_trajectory(folder: Path) -> Trajectory | None:
    """Return the run's recorded trajectory so far; ``None`` without one. Raises RunError if damaged."""
    return _kept(folder, TRAJECTORY, lambda: trajectories.from_dict(read_json(folder, TRAJECTORY)), None)


def kept_arrays(folder: Path) -> dict[str, Any]:
    """Return the numpy arrays beside :func:`kept_insight`, by name. Raises RunError if damaged."""
    import numpy as np

    def arrays() -> dict[str, Any]:
        with np.load(folder / ARRAYS) as found:
            return dict(found)

    return _kept(folder, ARRAYS, arrays, {})


def _kept(folder: Path, name: str, read: Callable[[], T], empty: T) -> T:
    """Return what ``read`` makes of a run's file, ``empty`` if it has none. Raises RunError if damaged."""
    require_sound(folder, name)
    if not (folder / name).exists():
        return empty
    try:
        return read()
    except (BadInput, OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"{name} of '{folder.name}' cannot be read ({error}).") from error


def kept_adapter(folder: Path) -> Path:
    """Return the adapter's folder. Hashes it: not for the web server. Raises RunError if missing or damaged."""
    if not (folder / ADAPTER / "adapter_config.json").exists():
        raise RunError(f"'{folder.name}' saved no adapter, so it has no tuned model. Choose another run.")
    for name in kept_record(folder).get("files") or {}:
        if name.startswith(f"{ADAPTER}/"):
            require_sound(folder, name)
    return folder / ADAPTER


def save_adapter(folder: Path, write: Callable[[Path], None]) -> None:
    """Save the files that ``write`` puts into the folder passed to it as the run's adapter, all or none of them."""
    scratch = folder / _SCRATCH
    try:
        write(scratch)
        shutil.rmtree(folder / ADAPTER, ignore_errors=True)
        scratch.replace(folder / ADAPTER)
    finally:
        clear_kept(folder)


def clear_kept(folder: Path) -> None:
    """Remove what a run's process left half written. On a read-only disk it stays for now."""
    shutil.rmtree(folder / _SCRATCH, ignore_errors=True)
    for path in chain.from_iterable(map(folder.glob, _HALF)):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of what a run has written by its end, by path inside its folder. Raises OSError."""
    files = [folder / INSIGHT, folder / ARRAYS, folder / TRAJECTORY, *(folder / ADAPTER).rglob("*")]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(files) if path.is_file()}


def require_sound(folder: Path, name: str) -> None:
    """Check a file of a run against the hash in its record. Raises RunError if it differs."""
    expected = (kept_record(folder).get("files") or {}).get(name)
    if expected is None:
        return
    try:
        sound = sha256(folder / name) == expected
    except OSError as error:
        raise RunError(f"{name} of '{folder.name}' cannot be read ({error.strerror or error}).") from error
    if not sound:
        raise RunError(f"{name} of '{folder.name}' has changed since the run. Train it again.")


_MEMORY = ("peak_bytes", "process_peak_bytes", "device_allocated_bytes", "device_reserved_bytes")
_METRIC = {"name": str, **dict.fromkeys(("before", "after", "rows"), float | None)}
_FIELDS: Mapping[str, Any] = {
    **dict.fromkeys(("run_id", "status", "message"), str),
    **dict.fromkeys(("steps", "seconds"), float),
    **dict.fromkeys(("steps_per_second", "tokens_per_second", "first_loss_after"), float | None),
    **dict.fromkeys(("trainable", "head", "stored_bytes"), float | None),
    **dict.fromkeys(("dtype", "device", "adapter_dir"), str | None),
    "loss": list[float],
    "metric": dict,
    **dict.fromkeys(("memory", "inference", "unrelated"), dict | None),
    "spec": dict,
    **dict.fromkeys(("packages", "files"), dict[str, str] | None),
}


# ----------------------------------------
# Hashes of what a run is made from, stored with it: weights, tokenizer, sentences, the learner's file.


#: The files that decide what is loaded from a model's folder that is not one of the lab's assets.
_LOADED = ("*.safetensors", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt")


def input_hashes(spec: RunSpec, task: Task, entry: ModelEntry) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file, by where the files come from: an asset, a folder, the learner's file; of a model
    of the hub its commit. Reads every byte, once per process: for a worker. Raises AssetError."""
    found = {spec.model: model_hashes(spec.model, entry), **task.inputs()}
    if spec.start is not None:
        found["start"] = {Path(spec.start).name: fetching.soundness_digest(Path(spec.start))}
    if spec.compared and entry.kind == "causal-lm":
        found |= tasks.get_task(measuring.UNRELATED_TASK).inputs()
    return found


def require_same_model(spec: RunSpec, seen: Mapping[str, Mapping[str, str]] | None) -> None:
    """Check that the folder of a run's model is as in the hashes ``seen`` by the run, if any. For a worker. Raises
    BadInput if not."""
    noted = (seen or {}).get(spec.model)
    if noted is None or not own.is_folder(spec.model):
        return
    now = _folder(spec.model)
    changed = sorted(file for file, digest in noted.items() if now.get(file) != digest)
    if changed:
        raise BadInput(
            f"'{spec.model}' has changed since this run ({', '.join(changed)}), so the adapter no longer matches "
            "the model. Train the adapter again.",
            "model",
        )


def model_hashes(name: str, entry: ModelEntry, hashing: bool = True) -> dict[str, str]:
    """Return the SHA-256 of a model's files, or its commit. Without ``hashing`` those of an asset are noted ones."""
    if not models.looks_external(name):
        return assets.verified(name) if hashing else assets.noted(name)
    return _folder(name) if own.is_folder(name) else {"commit": str(entry.revision)}


def _folder(name: str) -> dict[str, str]:
    files = sorted(file for pattern in _LOADED for file in Path(name).glob(pattern))
    return {file.name: fetching.soundness_digest(file) for file in files}


# ----------------------------------------
# Files given to a run from outside, copied into its folder: the learner's file may be gone tomorrow.


START = "start.zip"


def copy_given(spec: RunSpec, made: Path, folder: Path) -> RunSpec:
    """Copy the files that a spec names into ``made``, which will be ``folder``; return the spec with the copies' paths.
    Raises BadInput (in a class, a file of somebody else), OSError."""
    for given in (spec.own_data, spec.start):
        if given is not None:
            places.require_mine(given)
    if spec.own_data is not None:
        ending, data = pictures.whole(Path(spec.own_data))
        (made / f"data{ending}").write_bytes(data)
        spec = replace(spec, own_data=str(folder / f"data{ending}"))
    if spec.start is not None:
        (made / START).write_bytes(library_files.packed(Path(spec.start)))
        spec = replace(spec, start=str(folder / START))
    return spec


EVENT = "expected"
#: Runs on this machine needed for a range, and the most that are considered, latest first.
ENOUGH, LATEST_FORECASTS = 5, 50


@dataclass(frozen=True)
class MadeForecast:
    """The forecast of a run's duration, beside the measured one. ``where``: the processor it was made for. ``took``:
    ``None`` if the run is not done."""

    seconds: float
    plain: float
    where: str
    took: float | None = None

    @property
    def ratio(self) -> float | None:
        """Return measured over predicted seconds; ``None`` if not measured."""
        return self.took / self.seconds if self.took else None


def forecasts_file() -> str:
    """Return the processor and its cores, as forecasts name them."""
    return f"{machine.processor()}, {machine.cores()}"


def kept_forecasts(events: Iterable[Mapping[str, Any]], took: float | None) -> MadeForecast | None:
    """Return the forecast among a run's events; ``None`` without one. ``took``: ignored if the run was resumed."""
    found = None
    for event in events:
        if event["type"] == EVENT:
            found = event
        elif event["type"] == "queued" and "continued" in event:
            took = None
    if found is None:
        return None
    return MadeForecast(found["seconds"], found["plain"], found["where"], took)


def forecast_errors(past: Iterable[MadeForecast | None]) -> list[float]:
    """Return measured over predicted seconds of the latest runs on this machine."""
    ratios = [one.ratio for one in past if one is not None and one.where == forecasts_file()]
    return [ratio for ratio in ratios if ratio is not None][:LATEST_FORECASTS]


def typical_error(ratios: Sequence[float]) -> float:
    """Return the median error of the forecasts, as a share of the measured time."""
    return median(abs(1 / ratio - 1) for ratio in ratios)


def forecast_made_of(like: int) -> str:
    """Return how a forecast was made, in one sentence. ``like``: earlier runs that corrected it."""
    if not like:
        return "Simulated with this machine's measured speed."
    runs = "a run" if like == 1 else f"{like} runs"
    return f"Simulated, and corrected by {runs} like this one."


def beside_forecasts(seconds: float, took: float | None) -> str:
    """Return a run's measured and predicted seconds as a sentence; empty until it has ended.

    >>> beside_forecasts(60.0, 48.0)
    'Took 48 s; estimated 60 s (+25%).'
    """
    if not took:
        return ""
    return f"Took {units.seconds(took)}; estimated {units.roughly(seconds)} ({seconds / took - 1:+.0%})."


def told_forecast(seconds: float, ratios: Sequence[float]) -> str:
    """Return a forecast for a button: ``about 50 s``, or a range if enough earlier forecasts can be compared.

    >>> told_forecast(48.2, []), told_forecast(48.2, [0.9, 0.95, 1.0, 1.1, 1.3])
    ('about 48 s', '43 to 63 s')
    """
    if len(ratios) < ENOUGH:
        return f"about {units.roughly(seconds)}"
    low, high = min(ratios), max(ratios)
    if len(ratios) >= 2 * ENOUGH:
        low, *_, high = quantiles(ratios, n=10)
    ends = [units.roughly(seconds * end) for end in (low, high)]
    return f"about {ends[0]}" if ends[0] == ends[1] else units.span(seconds * low, seconds * high)
