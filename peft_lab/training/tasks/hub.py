"""Store the learner's own data files under ``PEFT_LAB_HOME``, and fetch datasets of the Hugging Face Hub, named
``hf:owner/name:split``.

    hf:owner/name                              its split train
    hf:owner/name/folder@revision:split        the configuration in that folder, at that commit
    hf:owner/name?text=sentence&label=stars    our columns, each with the dataset's name for it

Its Parquet, JSON Lines or CSV files are fetched by ``huggingface_hub`` (and read from ``HF_HOME`` if the hub cannot be
reached); no code of a repository is run. If there are more rows than an upload may have, rows at equal steps are taken.
They become a JSON Lines file named by its content, which :mod:`peft_lab.training.tasks.apart` reads like any upload.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from peft_lab.classroom import places
from peft_lab.core import asking, units
from peft_lab.core.errors import BadInput
from peft_lab.models.own import hub_answers
from peft_lab.training.tasks import hub_rows

# A run has a copy of its own (:mod:`peft_lab.runs.kept`), so removing one here changes no run.


UPLOADS, DATASETS = "uploads", "datasets"
FOLDERS = {UPLOADS: "uploaded", DATASETS: "fetched from the Hugging Face Hub"}
_DIGITS = 12  # of its content's hash, with which a file's name begins


@dataclass(frozen=True)
class KeptFile:
    """One data file. ``path``: in the user's own folder. ``nbytes``: its size. ``used``: its last upload or fetch, in
    seconds since 1970. ``origin``: how it came here, in words."""

    path: Path
    nbytes: int
    used: float
    origin: str

    @property
    def title(self) -> str:
        """Return the file's original name, without the digits of its hash."""
        return self.path.name[_DIGITS:].removeprefix("-") or self.path.name


def kept_files() -> list[KeptFile]:
    """Return the user's data files, the latest first."""
    files = []
    for folder, origin in FOLDERS.items():
        top = places.mine() / folder
        for path in top.iterdir() if top.is_dir() else ():
            try:
                if path.is_file():
                    files.append(KeptFile(path, path.stat().st_size, path.stat().st_mtime, origin))
            except OSError:
                continue  # removed just now
    return sorted(files, key=lambda file: (-file.used, file.path.name))


def remove_file(path: Path) -> None:
    """Delete one of the user's data files. A file that is gone already is no error. Raises BadInput (it is not one of
    the user's files, or the disk refuses)."""
    if path not in [file.path for file in kept_files()]:
        if path.exists():
            raise BadInput(f"{path.name} is not one of your files.", "own_data")
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{path.name} could not be removed: {error.strerror or error}.", "own_data") from error


def remove_unused(before: float, folders: tuple[str, ...] = tuple(FOLDERS)) -> int:
    """Delete files last used before a time (seconds since 1970); return their number. Raises OSError."""
    old = [file for file in kept_files() if file.used < before and file.path.parent.name in folders]
    for file in old:
        file.path.unlink(missing_ok=True)
    return len(old)


FIELD = "own_data"
MARK = "hf:"
SPLIT = "train"
#: The most bytes of a split, all files together, that are fetched to take a sample from.
MAX_FETCH = 500_000_000
SECONDS = 20.0
_FORM = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<folder>[\w./-]+))?(?:@(?P<revision>[\w./-]+))?(?::(?P<split>[\w.-]+))?"
    r"(?:\?(?P<columns>.+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAMED = 6


@dataclass(frozen=True)
class HubDataset:
    """A dataset as a learner names it. ``columns``: our column names, by the dataset's."""

    repo: str
    split: str = SPLIT
    folder: str = ""
    revision: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        folder = f"/{self.folder}" if self.folder else ""
        revision = f"@{self.revision}" if self.revision else ""
        wanted = {ours: theirs for theirs, ours in self.columns.items()}
        columns = f"?{urlencode(wanted)}" if wanted else ""
        return f"{MARK}{self.repo}{folder}{revision}:{self.split}{columns}"


@dataclass(frozen=True)
class Fetched:
    """Rows of a dataset. ``name``: of the file to write. ``data``: JSON Lines. ``asked``: the dataset, with the commit
    that was read. ``rows``: the number taken. ``available``: the number in the split."""

    name: str
    data: bytes = field(repr=False)
    asked: HubDataset
    rows: int
    available: int

    @property
    def said(self) -> str:
        """Return the source of the rows in words, and how many were taken if not all."""
        return source(str(self.asked)) + (
            f" {self.rows:,} of its {self.available:,} rows were taken, evenly spaced."
            if self.rows < self.available
            else ""
        )


def is_hub(text: str | None) -> bool:
    """Return whether a text names a dataset of the hub."""
    return text is not None and text.startswith(MARK)


def parse(text: str) -> HubDataset:
    """Parse the name of a dataset.

    Raises:
        BadInput: it has another form, or names a column that is not ours.

    >>> parse("hf:stanfordnlp/sst2:validation?text=sentence")
    HubDataset(repo='stanfordnlp/sst2', split='validation', folder='', revision=None, columns={'sentence': 'text'})
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise BadInput(
            f"'{text[:120]}' names no dataset. Write hf:owner/name, or hf:owner/name:split for another split.",
            FIELD,
        )
    columns = {theirs: ours for ours, theirs in parse_qsl(match["columns"] or "")}
    if odd := sorted(set(columns.values()) - set(hub_rows.WANTED)):
        raise BadInput(f"'{odd[0]}' is not a column to name. Use {', '.join(hub_rows.WANTED)}.", FIELD)
    return HubDataset(
        match["repo"], match["split"] or SPLIT, (match["folder"] or "").strip("/"), match["revision"], columns
    )


def source(text: str) -> str:
    """Return the source of a run's rows as a sentence. ``text``: a :class:`HubDataset` as text."""
    dataset = parse(text)
    where = f"{dataset.repo}/{dataset.folder}" if dataset.folder else dataset.repo
    return f"Hugging Face dataset {where}, split {dataset.split}, commit {dataset.revision}."


def fetch(text: str) -> Fetched:
    """Return the rows of a dataset, from the hub or from its cache on this machine. Raises BadInput (in a class; no
    such dataset, split or columns; too many bytes; neither hub nor cache has it)."""
    if asking.class_is_on():
        raise BadInput("In a class nothing is fetched from the Hugging Face Hub. Upload a file.", FIELD)
    dataset = parse(text)
    reached = hub_answers()
    revision, sizes = _listed(dataset) if reached else _cached(dataset)
    files = chosen(dataset, sizes)
    total = sum(sizes[name] for name in files)
    if total > MAX_FETCH:
        size, most = units.unlike(total, MAX_FETCH)
        raise BadInput(
            f"The split {dataset.split} of {dataset.repo} has {size}; at most {most} are allowed. Choose a smaller "
            "split, or save a sample as a file.",
            FIELD,
        )
    paths = [_file(dataset.repo, name, revision, reached) for name in files]
    rows = hub_rows.read(paths, dataset.columns)
    named = replace(dataset, revision=revision)
    safe = re.sub(
        r"[^\w.-]", "-", f"{dataset.repo}-{dataset.folder or ''}-{dataset.split}".replace("--", "-")
    )
    return Fetched(f"{safe}.jsonl", rows.data, named, rows.taken, rows.available)


def chosen(dataset: HubDataset, files: Sequence[str] | Mapping[str, int]) -> list[str]:
    """Return the files of a split in order, all in one folder and of one format. Raises BadInput (there is no file to
    read or no such split, or several configurations have it)."""
    data = [
        name
        for name in sorted(files)
        if name.lower().endswith(hub_rows.ENDINGS)
        and (not dataset.folder or f"/{name}".find(f"/{dataset.folder}/") >= 0)
    ]
    if not data:
        raise BadInput(
            f"{dataset.repo}{f'/{dataset.folder}' * bool(dataset.folder)} has no file that PEFT Lab can read "
            f"({', '.join(hub_rows.ENDINGS)}). PEFT Lab runs no downloaded code, so it cannot read a dataset that a "
            "script builds.",
            FIELD,
        )
    named = re.compile(rf"(?:^|[/_.-]){re.escape(dataset.split)}(?:[/_.-]|$)")
    matching = [name for name in data if named.search(name)]
    if not matching and len(data) == 1 and dataset.split == SPLIT:
        matching = data
    if not matching:
        raise BadInput(f"{dataset.repo} has no split {dataset.split}; its files are {_few(data)}.", FIELD)
    folders = sorted({name.rpartition("/")[0] for name in matching})
    if len(folders) > 1:
        raise BadInput(
            f"{dataset.repo} has the split {dataset.split} in {_few(folders)}: name one, as "
            f"hf:{dataset.repo}/{folders[0] or folders[1]}:{dataset.split}.",
            FIELD,
        )
    kinds = {Path(name).suffix for name in matching}
    best = next(ending for ending in hub_rows.ENDINGS if ending in kinds)
    return [name for name in matching if name.endswith(best)]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(name or "the top folder" for name in names[:_NAMED]) + more


def _listed(dataset: HubDataset) -> tuple[str, dict[str, int]]:
    """Return the commit and the size of each file in bytes, as the hub states them."""
    from huggingface_hub import HfApi, errors

    said = {  # the first that fits: some are kinds of others
        errors.GatedRepoError: f"The dataset {dataset.repo} asks for consent on its page first.",
        errors.RevisionNotFoundError: f"The dataset {dataset.repo} has no revision {dataset.revision}.",
        errors.RepositoryNotFoundError: f"The Hugging Face Hub has no dataset {dataset.repo}, or it is private.",
    }
    try:
        info = HfApi().dataset_info(
            dataset.repo, revision=dataset.revision, timeout=SECONDS, files_metadata=True
        )
    except errors.HFValidationError as error:
        raise BadInput(f"'{dataset.repo}' cannot name a dataset: {_line(error)}", FIELD) from error
    except (
        Exception
    ) as error:  # a broken connection raises what its client's HTTP library, which changes, raises
        unreached = f"The Hugging Face Hub could not be asked about {dataset.repo}: {_line(error)}"
        raise BadInput(
            next((said[kind] for kind in said if isinstance(error, kind)), unreached), FIELD
        ) from error
    files = {file.rfilename: int(file.size or 0) for file in info.siblings or ()}
    return str(info.sha), files


def _cached(dataset: HubDataset) -> tuple[str, dict[str, int]]:
    """Return the commit and the size of each file in bytes, as an earlier call left them on this machine."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{dataset.repo.replace('/', '--')}"
    revision = dataset.revision or "main"
    if not _COMMIT.fullmatch(revision):
        try:
            revision = (folder / "refs" / revision).read_text("utf-8").strip()
        except (OSError, ValueError):
            revision = ""
    top = folder / "snapshots" / revision
    if not _COMMIT.fullmatch(revision) or not top.is_dir():
        raise BadInput(
            f"The Hugging Face Hub was not reached, and the dataset {dataset.repo} is not in this machine's cache. "
            "Save its rows as a file and use that.",
            FIELD,
        )
    return revision, {
        p.relative_to(top).as_posix(): p.stat().st_size for p in sorted(top.rglob("*")) if p.is_file()
    }


def _file(repo: str, name: str, revision: str, reached: bool) -> Path:
    from huggingface_hub import constants, hf_hub_download

    try:
        return Path(
            hf_hub_download(
                repo, name, repo_type="dataset", revision=revision,
                cache_dir=constants.HF_HUB_CACHE, etag_timeout=SECONDS, local_files_only=not reached,
            )
        )  # fmt: skip
    except Exception as error:  # as above
        raise BadInput(f"{name} of {repo} could not be fetched: {_line(error)}", FIELD) from error


def _line(error: Any) -> str:
    return " ".join(str(error).split())[:200]


# ----------------------------------------
# The rows of a dataset of the hub as a file of the learner's own, named by its content.


_DAY = 24 * 3600.0


def kept_hub_file(text: str) -> tuple[str, Fetched]:
    """Fetch a dataset's rows into a file; return its path and what was fetched. Files of the hub that were not used for
    as many days as a class keeps an upload are deleted. Raises as :func:`fetch`, and OSError."""
    fetched = fetch(text)
    folder = places.mine() / DATASETS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(fetched.data).hexdigest()[:12]}-{fetched.name}"
    if path.exists():
        path.touch()
    else:
        path.write_bytes(fetched.data)
    with suppress(OSError):  # the next time, then
        remove_unused(time.time() - asking.limits().days * _DAY, (DATASETS,))
    return str(path), fetched
