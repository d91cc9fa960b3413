"""Exchange runs with nodes that do not see the lab folder: a node gets a run at an fsspec URL, such as
``s3://bucket/lab``, and returns its files there while it trains. The requester's run store stays authoritative.

URL/<run>/<turn>/0/        the folder as it was handed over
URL/<run>/<turn>/1/        the folder on the node that trains it; 2 is the next node if the first was lost
URL/<run>/<turn>/asked/    stop and rungs.json, from the requester

A living node that was taken for lost finds a number above its own, or the turn gone, and writes nothing more.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput, RunError, in_short
from peft_lab.runs import checkpoints, owners, store
from peft_lab.runs.store import Run

EVENTS, SPEC = "events.jsonl", "spec.json"
ASKED = "asked"
EVERY = 1.0  # seconds between exchanges
LAST = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds between attempts to deliver the end of a run, the only copy
#: Files that only the requester writes; never copied back.
FROM_DRIVER = (store.STOP, checkpoints.EARLY_FILE)
# No hidden name and no path out of the folder: a bucket may hold anything.
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*", re.ASCII)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at a URL."""

    files: Any
    path: str

    def below(self, *names: object) -> RemoteFolder:
        """Return the place below this one, with each name as a part of the path."""
        return RemoteFolder(self.files, "/".join((self.path, *map(str, names))))

    def names(self) -> list[str]:
        """Return the names of the entries here, sorted; empty if there is no such place."""
        try:
            found = self.files.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted({str(each).rstrip("/").rpartition("/")[2] for each in found})

    def read(self, name: str) -> bytes | None:
        """Return a file's content; ``None`` if there is no such file."""
        try:
            return bytes(self.files.cat_file(f"{self.path}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file here, replacing one of that name."""
        target = f"{self.path}/{name}"
        self.files.makedirs(target.rpartition("/")[0], exist_ok=True)  # object stores have and need none
        self.files.pipe_file(target, data)

    def remove(self) -> None:
        """Remove this place with all it holds; do nothing if it does not exist."""
        with suppress(FileNotFoundError):
            self.files.rm(self.path, recursive=True)


def place(url: str) -> RemoteFolder:
    """Return the place at a URL, after writing and reading a test file there.

    Raises:
        BadInput: the URL cannot be written and read, or the library for its kind is not installed.
    """
    if "://" not in url:
        raise BadInput(f"'{url}' is not a URL. Give --store a URL such as s3://bucket/lab.", "store")
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url, use_listings_cache=False)
        found = RemoteFolder(files, str(path).rstrip("/"))
        mark = f".tried-{secrets.token_hex(4)}"
        found.write(mark, b"tried")
        if found.read(mark) != b"tried":
            raise OSError("a file written there could not be read back")
        files.rm_file(f"{found.path}/{mark}")
    except Exception as error:  # whatever the library of that kind of URL raises
        raise BadInput(f"{url} cannot be used as the store: {in_short(error)}", "store") from error
    return found


def turn_of(at: RemoteFolder, run: str, turn: float) -> RemoteFolder:
    """Return the place of one hand-over of a run, named by its turn with six decimals."""
    return at.below(run, f"{turn:.6f}")


def holders(turn: RemoteFolder) -> list[int]:
    """Return the numbers of a turn's holders: 0 for the requester, then the nodes. Empty once it is over."""
    return sorted(int(name) for name in turn.names() if name.isdigit())


@dataclass
class Upload:
    """Copy a folder to a place: each call sends what has changed since the one before."""

    folder: Path
    to: RemoteFolder
    without: tuple[str, ...] = FROM_DRIVER
    _sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    _events: bytes = b""

    def send(self) -> None:
        """Send what has changed; the events last, as read first: an ending arrives only after its files."""
        with suppress(FileNotFoundError):
            events = (self.folder / EVENTS).read_bytes()
            found = self._files()
            for name, stamp in found.items():
                if self._sent.get(name) != stamp:
                    with suppress(FileNotFoundError):  # replaced meanwhile
                        self.to.write(name, (self.folder / name).read_bytes())
                        self._sent[name] = stamp
            if events != self._events:
                self.to.write(EVENTS, events)
                self._events = events
            for name in self._sent.keys() - found.keys():
                with suppress(FileNotFoundError):
                    self.to.files.rm_file(f"{self.to.path}/{name}")
                del self._sent[name]

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            with suppress(FileNotFoundError):
                if _goes(name) and name not in self.without and path.is_file():
                    stat = path.stat()
                    found[name] = (stat.st_mtime_ns, stat.st_size)
        return found


def _goes(name: str) -> bool:
    return name not in (EVENTS, owners.BEAT) and _NAME.fullmatch(name) is not None


@dataclass
class Download:
    """Copy a turn's files from its nodes into the run's folder: each call fetches what has changed."""

    turn: RemoteFolder
    folder: Path
    answered: float = 0.0  # when the place last answered, by time.monotonic()
    _attempt: int = 0
    _got: dict[str, Any] = field(default_factory=dict)
    _told: dict[str, bytes] = field(default_factory=dict)

    def fetch(self) -> None:
        """Fetch what has changed. Raises OSError and what the library of the URL raises."""
        for attempt in reversed(holders(self.turn)):
            source = self.turn.below(attempt)
            if attempt == 0 or (events := source.read(EVENTS)) is None:
                continue
            self.answered = time.monotonic()
            if attempt != self._attempt:
                self._attempt, self._got = attempt, {}
            there = fetch_changed(source, self.folder, self._got)
            for path in self.folder.glob("checkpoint-*.pt"):
                if path.name not in there:
                    path.unlink(missing_ok=True)
            take_events(self.folder / EVENTS, events)
            return

    def tell(self) -> None:
        """Send the node the decisions about the run since the last exchange."""
        for name in FROM_DRIVER:
            with suppress(FileNotFoundError):
                data = (self.folder / name).read_bytes()
                if self._told.get(name) != data:
                    self.turn.below(ASKED).write(name, data)
                    self._told[name] = data


def fetch_changed(source: RemoteFolder, folder: Path, got: dict[str, Any], first: bool = False) -> set[str]:
    """Copy the changed files of a place into a folder; update ``got``, their stamps, and return all names there.

    Args:
        first: include the spec and the requester's files, which later only the folder itself determines.
    """
    names = set()
    for path, info in source.files.find(source.path, detail=True).items():
        name = str(path)[len(source.path) + 1 :]
        if not _goes(name) or (not first and name in (SPEC, *FROM_DRIVER)):
            continue
        names.add(name)
        stamp = (info.get("size"), str(info.get("ETag") or info.get("mtime") or info.get("created")))
        if got.get(name) == stamp:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # removed since it was listed
            with disk.replacing(target) as scratch:
                source.files.get_file(path, str(scratch))
            got[name] = stamp
    return names


def take_events(path: Path, events: bytes) -> None:
    """Set a run's events file to this content: append if it continues the present one, else replace atomically."""
    whole = events[: events.rfind(b"\n") + 1]
    have = path.read_bytes() if path.exists() else b""
    if whole == have:
        return
    if have and whole.startswith(have):
        with path.open("ab") as file:
            file.write(whole[len(have) :])
        return
    with disk.replacing(path) as scratch:
        scratch.write_bytes(whole)


def hand_over(at: RemoteFolder, run: store.Run, turn: float) -> Download:
    """Copy a run's folder there for a node; return what fetches it back. Raises RunError if that fails."""
    to = turn_of(at, run.id, turn)
    try:
        Upload(run.folder, to.below(0), (SPEC, *FROM_DRIVER)).send()
        to.below(0).write(SPEC, (run.folder / SPEC).read_bytes())  # last: it marks the turn as complete
    except Exception as error:
        raise RunError(f"'{run.id}' cannot be copied to {to.path}: {in_short(error)}") from error
    return Download(to, run.folder)


@dataclass
class NodeTurn:
    """A turn on the node that trains it."""

    turn: RemoteFolder
    folder: Path
    number: int

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Exchange files for the duration of the context: send the folder's changes, receive the requester's files.
        Raises what the library of the URL raises if it fails at the start, or for a minute at the end."""
        upload = Upload(self.folder, self.turn.below(self.number), (SPEC, *FROM_DRIVER))
        over = threading.Event()

        def work() -> None:
            while not over.wait(EVERY):
                with suppress(Exception):  # the network may be away for a while: the next exchange retries
                    self._look(upload)

        thread = threading.Thread(target=work, name="bringing", daemon=True)
        upload.send()
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        for pause in LAST:
            with suppress(Exception):  # the network may be away, as above
                self._look(upload)
                return
            time.sleep(pause)
        self._look(upload)

    def _look(self, upload: Upload) -> None:
        there = holders(self.turn)
        if not there or there[0] != 0 or there[-1] != self.number:
            (self.folder / store.STOP).touch()  # another node carries it out, or nobody wants it any more
            return
        upload.send()
        for name in FROM_DRIVER:
            data = self.turn.below(ASKED).read(name)
            if data is not None and (not (path := self.folder / name).exists() or path.read_bytes() != data):
                with disk.replacing(path) as scratch:
                    scratch.write_bytes(data)


def take_over(turn: RemoteFolder, folder: Path) -> NodeTurn:
    """Take over a turn on a node: fetch its folder as the previous holder left it, under the next number.

    Raises:
        RunError: there is no such turn.
    """
    there = holders(turn)
    if not there or turn.below(0).read(SPEC) is None:
        raise RunError(f"The folder {turn.path} contains no run to train.")
    latest = next(each for each in reversed(there) if turn.below(each).read(EVENTS) is not None)
    folder.mkdir(parents=True)
    source = turn.below(latest)
    events = source.read(EVENTS) or b""
    fetch_changed(turn.below(0), folder, {}, first=True)
    if latest:
        for path in folder.glob("checkpoint-*.pt"):
            path.unlink()
        fetch_changed(source, folder, {})
    take_events(folder / EVENTS, events)
    _name_files_here(folder)
    return NodeTurn(turn, folder, there[-1] + 1)


def _name_files_here(folder: Path) -> None:
    """Rewrite the paths of a run's own files in its spec, which are those of the requester's machine."""
    spec = disk.read_json(folder / SPEC)
    for setting in ("own_data", "start"):
        if spec.get(setting):
            spec[setting] = str(folder / Path(spec[setting]).name)
    disk.write_json(folder / SPEC, spec)


# ----------------------------------------
# The driver's side: hand runs over, fetch them while they train and at the end.


AT_ONCE = 16  # runs that are fetched at the same time
TRIES = 5  # attempts to fetch the end of a run, some seconds apart
UNTOLD = 5.0  # seconds that a store may be away without a message


class RemoteRuns:
    """The runs of one driver at a URL. Raises BadInput if it cannot be written.

    ``tell`` gets a sentence when the URL has been unreachable for some seconds, and one when it is reachable again.
    """

    def __init__(self, url: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self.url = url
        self._tell = tell
        self._away: float | None = None  # since when fetching fails, in seconds since 1970
        self._told = False
        self._at = place(url)
        self._going: dict[Path, Download] = {}
        self._known: set[Path] = set()
        self._looked = 0.0
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetching")

    def hand_over(self, run: Run, turn: float) -> None:
        """Hand a run to a node. If that fails, end the run as failed; raises RunError."""
        try:
            self._going[run.folder] = hand_over(self._at, run, turn)
        except RunError as error:
            run.log.end("failed", message=str(error))
            raise
        self._known.add(run.folder)

    def look(self) -> None:
        """Fetch the changes of all runs under way, at most once a second. An unreachable store is retried later."""
        if time.monotonic() - self._looked < EVERY:
            return
        begun, since, going = time.time(), time.monotonic(), list(self._going.values())
        asked = [self._pool.submit(_look, each) for each in going]
        late = wait(asked, timeout=UNTOLD).not_done
        # A fetch that answered since is busy with a large file; one that has not begun waits for such fetches.
        slow = any(
            one in late and one.running() and each.answered < since
            for each, one in zip(going, asked, strict=True)
        )
        if slow:
            self._note(begun, f"no answer within {units.seconds(UNTOLD)}")
        problems = [each for each in [look.result() for look in asked] if each is not None]
        if problems:
            self._note(begun, in_short(problems[0], 200))
        elif asked and not slow:
            self._note_back()
        self._looked = time.monotonic()

    def _note(self, begun: float, why: str) -> None:
        """Note that an exchange begun at ``begun`` failed; report it once, after some seconds of failures."""
        if self._away is None:
            self._away = begun
        if not self._told and time.time() - self._away >= UNTOLD:
            self._told = True
            since = time.strftime("%H:%M:%S", time.localtime(self._away))
            self._tell(
                f"no results of the nodes since {since}: {self.url} cannot be read ({why.rstrip('.')}); retrying "
                "every second"
            )

    def _note_back(self) -> None:
        if self._told and self._away is not None:
            self._tell(f"{self.url} answers again, after {units.seconds(time.time() - self._away)}")
        self._away, self._told = None, False

    def over(self, run: Run) -> str:
        """Fetch the last files of a run whose task has ended, and clean up; return why that failed, or empty."""
        download = self._going.pop(run.folder)
        why = ""
        for each in range(TRIES):
            try:
                download.fetch()
            except Exception as error:  # noqa: BLE001  whatever the library of the URL raises ends this one run
                why = f"The run's results cannot be fetched from {self.url}: {in_short(error)}"
                time.sleep(each)
                continue
            self.clear(run)
            return ""
        self._known.discard(run.folder)  # its files remain there, for when the run is begun again
        return why

    def clear(self, run: Run) -> None:
        """Remove a run's files from the URL."""
        with suppress(Exception):  # files that remain take up room only
            self._at.below(run.id).remove()

    def left(self, run: Run) -> None:
        """Fetch what nodes wrote of a killed driver's run, unless this driver handed it over. If the run has gone on
        without this URL, its latest turn was never here, and nothing is fetched. Raises RunError.
        """
        if run.folder in self._known:
            return
        turn = turn_of(self._at, run.id, checkpoints.asked_to_go_on(run))
        try:
            Download(turn, run.folder).fetch()
        except Exception as error:
            raise RunError(
                f"The files of '{run.id}' cannot be fetched from {self.url}: {in_short(error)}"
            ) from error


def _look(download: Download) -> Exception | None:
    """Exchange files once; return the error, if any."""
    try:
        download.tell()
        download.fetch()
    except Exception as error:  # noqa: BLE001  whatever the library of the URL raises: it is retried
        return error
    return None
