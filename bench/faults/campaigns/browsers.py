"""Two browsers on one run: what one of them shows is no longer so when its buttons are pressed, since the other has
stopped, ended, deleted or gone on with the run meanwhile; and both at the same moment."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from bench.faults.rows import LIMIT, Place, Row
from bench.faults.watching import QUICK, finished
from peft_lab import takeaway
from peft_lab.core.errors import PeftLabError
from peft_lab.runs import owners, store
from peft_lab.runs.queue import RunQueue
from peft_lab.runs.store import Run

TIMES = 48
ROOT = Path(__file__).parents[3]
PAGES = ("lora", "runs")
#: In which state the first browser draws the run, what the other does to it, and what the first then presses.
STATES = ("queued", "running", "stopped", "failed", "done")
DEEDS: dict[str, Callable[[Run], object]] = {
    "deletes it": lambda run: shutil.rmtree(run.folder),
    "stops it": lambda run: run.ask_to_stop(),
    "ends it": lambda run: run.log.emit("done", message=""),
    "loses it": lambda run: run.log.emit("lost", message="The app ended."),
    "spoils it": lambda run: (run.folder / "spec.json").write_text("{"),
}
BUTTONS = ("lora-stop", "lora-go-on", "run-stop", "run-go-on", "run-open", "run-delete", "")
AT_ONCE = 6


class _Waiting(RunQueue):
    """Takes runs, and never trains one."""

    def _take(self, run: Run, timed: bool = False) -> None:
        owners.touch(run.folder)


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for pages, one for what several do at the same moment."""
    made = finished(QUICK)[0]
    yield _pages(place, made, times)
    yield _at_once(place, made, 5 * times)


def _copy(made: Run, name: str, state: str) -> Run:
    """A run like the one that was made, in another state."""
    folder = made.folder.with_name(f"20990101-000000-lora-minilm-sentiment-{name}")
    shutil.copytree(made.folder, folder)
    run, owner = Run(folder.name, folder), owners.myself().to_dict()
    if state == "done":
        return run
    lines = (folder / "events.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = 1 if state == "queued" else next(at for at, line in enumerate(lines) if '"step"' in line) + 1
    (folder / "events.jsonl").write_text("".join(lines[:kept]))
    (folder / "record.json").unlink()
    if state in ("queued", "running"):
        run.log.emit("worker", owner=owner, niceness=0) if state == "running" else None
        owners.touch(folder)
    else:
        run.log.emit(state, message="why")
    return run


def _pages(place: Place, made: Run, times: int) -> Row:
    from streamlit.testing.v1 import AppTest

    row, chance = (
        Row("a page that the other browser has made untrue, pressed or drawn again"),
        random.Random(0),
    )
    cases, presses = [*product(PAGES, STATES, DEEDS)], 0
    chance.shuffle(cases)
    for number, (page, state, deed) in enumerate(place.in_time((cases * times)[:times])):
        row.tried += 1
        run, label = _copy(made, f"p{number}", state), f"{page}, {state}, the other {deed}"
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=LIMIT)
        app.query_params["run"], app.query_params["tab"] = run.id, "train"
        app.session_state["settings"] = {"runs": {"chosen": run.id}}
        app.switch_page(f"pages/{page}.py")
        app.run()
        _shown(row, f"{label}, before", app)
        DEEDS[deed](run)
        pressed = [button for button in app.button if button.key in BUTTONS and not button.disabled]
        if pressed:
            chosen = chance.choice(pressed)
            label, presses = f"{label}, {chosen.key}", presses + 1
            chosen.click()
        app.run()
        _shown(row, label, app)
        shutil.rmtree(run.folder, ignore_errors=True)
    row.notes = f"a page, or a sentence on it; a button was pressed {presses} times"
    return row


def _shown(row: Row, label: str, app: Any) -> None:
    if app.exception:
        row.traceback(f"{label}: {app.exception[0].message} {app.exception[0].stack_trace[-4:]}")


def _at_once(place: Place, made: Run, times: int) -> Row:
    """Threads that read, stop, go on with and delete the same run, which may be gone at any moment."""
    row, chance = (
        Row(f"one run read, stopped, gone on with and deleted at once, {AT_ONCE} threads"),
        random.Random(1),
    )
    queue = _Waiting()
    for number in place.in_time(range(times)):
        row.tried += 1
        run = _copy(made, f"t{number}", chance.choice(STATES))
        uses: list[Callable[[], object]] = [
            partial(store.delete, run.id), store.summaries, run.view, run.record, run.insight, run.arrays,
            run.trajectory, partial(takeaway.script, run), partial(takeaway.adapter_zip, run),
            partial(queue.stop, run.id), partial(queue.go_on, run.id, anew=True), partial(queue.position, run.id),
            partial(queue.wait, run.id, 0), partial(run.log.emit, "phase", name="x"),
        ]  # fmt: skip
        chosen = [uses[0], *chance.sample(uses, AT_ONCE - 1)]
        _together(row, f"{number}", chosen)
        shutil.rmtree(run.folder, ignore_errors=True)
    left = [path.name for path in (made.folder.parent).iterdir() if path.name.startswith(".deleted")]
    if left:
        row.other(f"{len(left)} folders of deleted runs are left")
    row.notes = "an answer, or a sentence"
    return row


def _together(row: Row, label: str, uses: list[Callable[[], object]]) -> None:
    import traceback

    ready = threading.Barrier(len(uses))

    def work(use: Callable[[], object]) -> None:
        ready.wait()
        try:
            use()
        except (PeftLabError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and "events.jsonl" not in str(error):
                row.traceback(f"{label}: {traceback.format_exc(limit=-4)}")
        except Exception:  # noqa: BLE001  that is what is counted
            row.traceback(f"{label}: {traceback.format_exc(limit=-4)}")

    threads = [threading.Thread(target=work, args=(use,)) for use in uses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
