"""One's own data as files under ``PEFT_LAB_HOME``, or out of a dataset of the Hugging Face Hub:
``hf:owner/name:split``.

    hf:owner/name                              its split train
    hf:owner/name/folder@revision:split        of several configurations the one in that folder, at that commit
    hf:owner/name?text=sentence&label=stars    where its columns are called otherwise

Its Parquet, JSON Lines or CSV files are fetched by ``huggingface_hub`` (and found again in ``HF_HOME`` without a hub);
no code of a repository is run. Rows are taken at equal steps where there are more than are taken of an upload, and
become a JSON Lines file named by its content, which is read like any upload (:mod:`peft_lab.training.tasks.apart`).
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
_DIGITS = 12  # of the hash that a file's name begins with


@dataclass(frozen=True)
class KeptFile:
    """One file.

    Attributes:
        path: in the folder of who asks. nbytes: its size. used: seconds since the epoch when it was last brought.
        origin: how it came here, in words.
    """

    path: Path
    nbytes: int
    used: float
    origin: str

    @property
    def title(self) -> str:
        """What it was called, without the digits of its content."""
        return self.path.name[_DIGITS:].removeprefix("-") or self.path.name


def kept_files() -> list[KeptFile]:
    """Those of who asks, the latest first."""
    found = []
    for folder, origin in FOLDERS.items():
        top = places.mine() / folder
        for path in top.iterdir() if top.is_dir() else ():
            try:
                if path.is_file():
                    found.append(KeptFile(path, path.stat().st_size, path.stat().st_mtime, origin))
            except OSError:
                continue  # removed just now
    return sorted(found, key=lambda each: (-each.used, each.path.name))


def remove_file(path: Path) -> None:
    """Remove one of them. What is gone already is no error.

    Raises:
        BadInput: it is none of one's own kept files, or the disk refuses.
    """
    if path not in [each.path for each in kept_files()]:
        if path.exists():
            raise BadInput(f"{path.name} is none of your files.", "own_data")
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{path.name} could not be removed: {error.strerror or error}.", "own_data") from error


def remove_unused(before: float, folders: tuple[str, ...] = tuple(FOLDERS)) -> int:
    """Remove files that were last brought before a time (seconds since the epoch); how many. Raises OSError."""
    old = [each for each in kept_files() if each.used < before and each.path.parent.name in folders]
    for each in old:
        each.path.unlink(missing_ok=True)
    return len(old)


FIELD = "own_data"
MARK = "hf:"
SPLIT = "train"
#: Of all files of a split together: what is fetched to take a sample from.
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
    """A dataset as it is named. ``columns``: what is wanted, by what it is called there."""

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
    """Rows out of a dataset.

    Attributes:
        name: for a file. data: JSON Lines. asked: the same with the commit that was read.
        rows: that were taken. available: that the split has.
    """

    name: str
    data: bytes = field(repr=False)
    asked: HubDataset
    rows: int
    available: int

    @property
    def said(self) -> str:
        """Where the rows come from, in a sentence."""
        return source(str(self.asked)) + (
            f" {self.rows:,} of its {self.available:,} rows were taken, at equal steps."
            if self.rows < self.available
            else ""
        )


def is_hub(text: str | None) -> bool:
    """Return whether a text names a dataset of the hub."""
    return text is not None and text.startswith(MARK)


def parse(text: str) -> HubDataset:
    """What a text names.

    Raises:
        BadInput: it is of another form.

    >>> parse("hf:stanfordnlp/sst2:validation?text=sentence")
    HubDataset(repo='stanfordnlp/sst2', split='validation', folder='', revision=None, columns={'sentence': 'text'})
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise BadInput(
            f"'{text[:120]}' names no dataset: write hf:owner/name, or hf:owner/name:split for another split.",
            FIELD,
        )
    columns = {theirs: ours for ours, theirs in parse_qsl(found["columns"] or "")}
    if odd := sorted(set(columns.values()) - set(hub_rows.WANTED)):
        raise BadInput(f"'{odd[0]}' is no column of ours: {', '.join(hub_rows.WANTED)} are.", FIELD)
    return HubDataset(
        found["repo"], found["split"] or SPLIT, (found["folder"] or "").strip("/"), found["revision"], columns
    )


def source(text: str) -> str:
    """Where the rows of a run come from, in a sentence. ``text``: as :class:`HubDataset` is written."""
    asked = parse(text)
    where = f"{asked.repo}/{asked.folder}" if asked.folder else asked.repo
    return f"Hugging Face dataset {where}, split {asked.split}, commit {asked.revision}."


def fetch(text: str) -> Fetched:
    """The rows of a dataset, out of the hub or out of its cache on this machine.

    Raises:
        BadInput: in a class; no such dataset, split or columns; a hub that is not reached and nothing in the cache.
    """
    if asking.class_is_on():
        raise BadInput("In a class nothing is fetched from the Hugging Face Hub: upload a file.", FIELD)
    asked = parse(text)
    reached = hub_answers()
    revision, sizes = _listed(asked) if reached else _cached(asked)
    files = chosen(asked, sizes)
    total = sum(sizes[name] for name in files)
    if total > MAX_FETCH:
        said, most = units.unlike(total, MAX_FETCH)
        raise BadInput(
            f"The split {asked.split} of {asked.repo} has {said}; at most {most} are fetched. Take a smaller split, or "
            "save a sample as a file.",
            FIELD,
        )
    paths = [_file(asked.repo, name, revision, reached) for name in files]
    rows = hub_rows.read(paths, asked.columns)
    named = replace(asked, revision=revision)
    safe = re.sub(r"[^\w.-]", "-", f"{asked.repo}-{asked.folder or ''}-{asked.split}".replace("--", "-"))
    return Fetched(f"{safe}.jsonl", rows.data, named, rows.taken, rows.available)


def chosen(asked: HubDataset, files: Sequence[str] | Mapping[str, int]) -> list[str]:
    """The files of a split, of one folder and one format, in order.

    Raises:
        BadInput: there are none that are read, or several configurations to choose from.
    """
    data = [
        name
        for name in sorted(files)
        if name.lower().endswith(hub_rows.ENDINGS)
        and (not asked.folder or f"/{name}".find(f"/{asked.folder}/") >= 0)
    ]
    if not data:
        raise BadInput(
            f"{asked.repo}{f'/{asked.folder}' * bool(asked.folder)} has no file that is read ("
            f"{', '.join(hub_rows.ENDINGS)}); a dataset that is made by code is not run.",
            FIELD,
        )
    named = re.compile(rf"(?:^|[/_.-]){re.escape(asked.split)}(?:[/_.-]|$)")
    found = [name for name in data if named.search(name)]
    if not found and len(data) == 1 and asked.split == SPLIT:
        found = data
    if not found:
        raise BadInput(f"{asked.repo} has no split {asked.split}; its files are {_few(data)}.", FIELD)
    folders = sorted({name.rpartition("/")[0] for name in found})
    if len(folders) > 1:
        raise BadInput(
            f"{asked.repo} has the split {asked.split} in {_few(folders)}: name one, as "
            f"hf:{asked.repo}/{folders[0] or folders[1]}:{asked.split}.",
            FIELD,
        )
    kinds = {Path(name).suffix for name in found}
    best = next(ending for ending in hub_rows.ENDINGS if ending in kinds)
    return [name for name in found if name.endswith(best)]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(name or "the top folder" for name in names[:_NAMED]) + more


def _listed(asked: HubDataset) -> tuple[str, dict[str, int]]:
    """The commit, and the size of each file, as the hub says."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().dataset_info(
            asked.repo, revision=asked.revision, timeout=SECONDS, files_metadata=True
        )
    except GatedRepoError as error:
        raise BadInput(f"The dataset {asked.repo} asks for consent on its page first.", FIELD) from error
    except RevisionNotFoundError as error:
        raise BadInput(f"The dataset {asked.repo} has no revision {asked.revision}.", FIELD) from error
    except RepositoryNotFoundError as error:
        raise BadInput(
            f"The Hugging Face Hub has no dataset {asked.repo}, or it is private.", FIELD
        ) from error
    except HFValidationError as error:
        raise BadInput(f"'{asked.repo}' cannot name a dataset: {_line(error)}", FIELD) from error
    except (
        Exception
    ) as error:  # what a broken connection raises is that of its client's HTTP library, which changes
        raise BadInput(
            f"The Hugging Face Hub did not answer about {asked.repo}: {_line(error)}", FIELD
        ) from error
    files = {each.rfilename: int(each.size or 0) for each in found.siblings or ()}
    return str(found.sha), files


def _cached(asked: HubDataset) -> tuple[str, dict[str, int]]:
    """The same of what an earlier call has left on this machine."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{asked.repo.replace('/', '--')}"
    revision = asked.revision or "main"
    if not _COMMIT.fullmatch(revision):
        try:
            revision = (folder / "refs" / revision).read_text("utf-8").strip()
        except (OSError, ValueError):
            revision = ""
    top = folder / "snapshots" / revision
    if not _COMMIT.fullmatch(revision) or not top.is_dir():
        raise BadInput(
            f"The Hugging Face Hub is not reached from here, and the dataset {asked.repo} is not in this machine's "
            "cache: save its rows as a file and give that.",
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
    """Fetch a dataset's rows; the path of the file that holds them, and what was fetched. Rows that were not asked
    for during as many days as a class keeps an upload are removed then: the hub has them, and a run its own copy.

    Raises what :func:`peft_lab.training.tasks.hub.fetch` raises, and OSError.
    """
    found = fetch(text)
    folder = places.mine() / DATASETS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(found.data).hexdigest()[:12]}-{found.name}"
    if path.exists():
        path.touch()
    else:
        path.write_bytes(found.data)
    with suppress(OSError):  # the next time, then
        remove_unused(time.time() - asking.limits().days * _DAY, (DATASETS,))
    return str(path), found
