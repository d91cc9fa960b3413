"""Single bits flipped in what is read again and again: the learners' file, weights that were fetched, weights of a
folder of one's own, a run's adapter.

SQLite and safetensors have no sums: what is flipped inside a number or a word of a folder of one's own is another
number or word. Wrong is a traceback, and where the app keeps hashes also an answer from changed bytes.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from bench.faults.campaigns.corrupt import _own_lists, _page
from bench.faults.rows import Place, Row, counted
from bench.faults.watching import PATIENCE, QUICK, finished
from peft_lab.core import inspector
from peft_lab.core.errors import PeftLabError
from peft_lab.interview import bank
from peft_lab.interview.learners.schedule import Learners
from peft_lab.models.assets import store as assets
from peft_lab.runs import respond, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from tests.models import homemade

TIMES = 300
NAME = "Ada"


def _flip(path: Path, chance: random.Random, first: int = 0, end: int | None = None) -> int:
    """Flip one bit between two bytes; where."""
    size = path.stat().st_size
    at = chance.randrange(first, min(size, end or size))
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    return at


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for each kind of file."""
    home = place.home("home")
    yield _learners(place, times)
    yield _adapter(place, max(1, times // 10))
    yield _own(place, max(1, times // 10))
    _own_lists(home, place.weights)
    yield _fetched(place, home, max(1, times // 30))


def _filled(file: Learners) -> None:
    """A learner as they are after some weeks."""
    names = [*bank.all_questions()][:40]
    file.create(NAME)
    for number, name in enumerate(names):
        file.rate(NAME, name, ("again", "hard", "good", "easy")[number % 4], 4000)
    file.keep(NAME, "tour", {"stop": 3})
    file.keep(NAME, "interview_on", str(date.today() + timedelta(days=9)))
    for number in range(5):
        file.add_result(NAME, "prediction", {"experiment": f"e{number}", "right": True})


def _learners(place: Place, times: int) -> Row:
    """A bit of the learners' file, then all that reads and writes it."""
    row, chance = Row("a flipped bit in learners.db"), random.Random(0)
    file = Learners()
    _filled(file)
    whole, told, same = file.path.read_bytes(), 0, 0
    expected = _read(file)
    for count in place.in_time(range(times)):
        row.tried += 1
        file.path.write_bytes(whole)
        for beside in ("-journal", "-wal", "-shm"):
            Path(f"{file.path}{beside}").unlink(missing_ok=True)
        at = _flip(file.path, chance)
        label = f"learners.db at {at}"
        answers = [row.guarded(label, call) for call in _uses(file)]
        told += any(isinstance(each, PeftLabError) for each in answers)
        same += (
            not any(isinstance(each, PeftLabError) for each in answers)
            and answers[: len(expected)] == expected
        )
        if count % 10 == 0:
            row.guarded(f"{label}: its page", lambda: _page("practice", learner=NAME))
    file.path.write_bytes(whole)
    row.notes = f"{told} told, {same} as before, the others another number or word"
    return row


def _read(file: Learners) -> list[object]:
    return [call() for call in _uses(file)[:5]]


def _uses(file: Learners) -> list[Callable[[], Any]]:
    day = date.today() + timedelta(days=9)
    topics = {"a": [*bank.all_questions()][:40]}
    return [
        file.names,
        lambda: file.cards(NAME),
        lambda: file.reviews(NAME),
        lambda: file.results(NAME, "prediction"),
        lambda: file.kept(NAME, "tour"),
        lambda: file.results(NAME, "interview"),
        lambda: file.days_to(NAME, day, topics, dict.fromkeys(topics["a"], 30.0)),
        lambda: file.preview(NAME, topics["a"][0]),
        lambda: file.rate(NAME, topics["a"][1], "good", 3000),
        lambda: file.keep(NAME, "tour", {"stop": 4}),
    ]


def _adapter(place: Place, times: int) -> Row:
    """A bit of a run's adapter: its hash is kept, so each is noticed where it is used."""
    row, chance = Row("a flipped bit in a run's adapter"), random.Random(1)
    (made,) = finished(QUICK)
    path = made.folder / "adapter" / "adapter_model.safetensors"
    whole = path.read_bytes()
    for _ in place.in_time(range(times)):
        row.tried += 1
        path.write_bytes(whole)
        at = _flip(path, chance)
        answer = row.guarded(f"adapter at {at}: ask", partial(respond.ask, made.id, [f"A fine film {at}."]))
        if not isinstance(answer, PeftLabError):
            row.loss(f"adapter at {at}: answered from changed bytes")
    path.write_bytes(whole)
    if isinstance(
        row.guarded("the adapter as it was: ask", lambda: respond.ask(made.id, ["A fine film."])),
        PeftLabError,
    ):
        row.hang("the adapter as it was is refused")
    row.notes = "told in a sentence each time; put back, it answers"
    return row


def _own(place: Place, times: int) -> Row:
    """A bit of a folder's weights: in its header a sentence, in a number another number; a run made before says so."""
    row, chance, endings = Row("a flipped bit in weights of a folder"), random.Random(2), dict[str, int]()
    folder = place.scratch / "own"
    homemade.folder("qwen2", folder)
    request = RunRequest(str(folder), "lora", "style", steps=1, batch=2, eval_rows=2, max_length=300)
    (made,) = finished(request)
    if made.status() != "done":
        raise RuntimeError(f"the run that all others are compared with: {made.view().message}")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for count in place.in_time(range(times)):
        row.tried += 1
        path.write_bytes(whole)
        at = _flip(path, chance, *((0, header) if count % 2 else (header, None)))
        answer = row.guarded(
            f"weights at {at}: ask of before", partial(respond.ask, made.id, [f"Hello {at}"])
        )
        if not isinstance(answer, PeftLabError):
            row.loss(f"weights at {at}: the run of before answers")
        following = row.guarded(f"weights at {at}: train", lambda: get_queue().submit(request))
        ending = "refused"
        if isinstance(following, str):
            ending = str(get_queue().wait(following, PATIENCE))
            log = store.get(following).folder / "worker.log"
            if log.exists() and "Traceback" in log.read_text("utf-8", "replace"):
                row.traceback(f"weights at {at}: {log.read_text('utf-8')[-600:]}")
        endings[ending] = endings.get(ending, 0) + 1
    told = counted(endings)
    row.notes = f"the run of before is told of it each time; new runs: {told}"
    return row


def _fetched(place: Place, home: Path, times: int) -> Row:
    """A bit of weights that were fetched: their hash is pinned, so nothing is computed from them."""
    row, chance = Row("a flipped bit in weights that were fetched"), random.Random(3)
    link = home / assets.ASSETS["minilm-l6"].folder / "model.safetensors"
    source = link.resolve()
    for _ in place.in_time(range(times)):
        row.tried += 1
        link.unlink()
        shutil.copy2(source, link)
        at = _flip(link, chance)
        following = row.guarded(f"fetched at {at}: train", lambda: get_queue().submit(QUICK))
        if isinstance(following, str) and get_queue().wait(following, PATIENCE) == "done":
            row.loss(f"fetched at {at}: a run was done with it")
        for note in home.glob(".damaged-*"):
            note.unlink()
    inspector.get_inspector().forget()
    link.unlink()
    link.symlink_to(source)
    row.notes = "told in a sentence each time"
    return row
