"""``kata``: the exercises of *Write it* in one's own editor: list, start, check, watch, show."""

from __future__ import annotations

import queue
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import FAILED, app, command_of
from peft_lab.cli.options import option
from peft_lab.core import disk
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.write import judge, progress
from peft_lab.interview.write.exercises import Exercise, exercise, exercises
from peft_lab.interview.write.judge import Verdict

kata = typer.Typer()
app.add_typer(kata, name="kata", help="Write parts of PEFT in plain torch: exercises with tests and hints.")

_MARK = "# kata: "  # begins the first line of a file, before the exercise's id
_STATE = "kata"  # the key of what a learner has begun on the command line
_LOOKS = 0.3  # seconds between two looks at a folder's files
_WIDTH = 100

Name = Annotated[str, typer.Argument(metavar="ID", help="The exercise's id, as 'kata list' prints it.")]
Learner = Annotated[
    str | None, option("--learner", "NAME", "Whose progress to use; by default the first learner's.")
]


@command_of(kata, "list")
def list_command(learner: Learner = None, as_json: options.Json = False) -> None:
    """List the exercises by path, with level, minutes, and what you have passed."""
    file = Learners()
    known = progress.standing(file, learner or progress.first_learner(file))

    def state(row: dict[str, Any]) -> str:
        one = known[row["id"]]
        return "due" if one.due else "passed" if one.passed else "tried" if one.tries else ""

    rows = [
        {**output.attributes(one, "id", "path", "level", "title", "minutes"), "mistakes": len(one.mistakes)}
        for one in exercises().values()
    ]
    columns: dict[str, output.Column] = {
        "id": "id",
        "path": "path",
        ">level": "level",
        ">minutes": "minutes",
        "title": "title",
        "": state,
    }
    caption = f"{len(rows)} exercises, {sum(row['mistakes'] for row in rows)} typical mistakes are recognised"
    output.show(rows, as_json, human=lambda: [output.table("Exercises", rows, columns, caption)])


def _comments(texts: Iterable[str]) -> list[str]:
    """Return texts as lines of comments."""
    return [f"# {line}".rstrip() for text in texts for line in textwrap.wrap(text, _WIDTH) or [""]]


@command_of(kata, "start")
def start(
    name: Name,
    out: Annotated[
        Path | None, option("--out", "FILE", "The file to write; by default, the id plus .py in this folder.")
    ] = None,
    learner: Learner = None,
    as_json: options.Json = False,
) -> None:
    """Write an exercise's stub to a file, to be completed in your editor."""
    one = exercise(name)
    file = out or Path(f"{name.replace('-', '_')}.py")
    if file.exists():
        raise BadInput(f"{file} exists already. Give another --out, or check it: kata check {file}", "out")
    head = [f"{_MARK}{one.id}", *_comments([one.title, "", *one.task.splitlines()])]
    with options.writing(file):
        file.write_text("\n".join([*head, "", one.stub]), "utf-8")
    _begin(learner, one)
    then = f"Complete it, then: kata check {file} (or kata watch)"
    output.show(
        {"id": one.id, "file": str(file)},
        as_json,
        human=lambda: [f"{file}: {one.title}, about {one.minutes} minutes. {then}"],
    )


@command_of(kata, "check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that 'kata start' wrote.")],
    learner: Learner = None,
    as_json: options.Json = False,
) -> None:
    """Run the tests on a file. The exit status is 0 if all pass, 1 if not, 2 if the file cannot be judged."""
    output.note(judge.protection())
    verdict = _judged(file, learner)
    failed = [
        {"test": test.name, "expected": test.expected, "got": test.got}
        for test in verdict.tests
        if not test.ok
    ]
    about = output.attributes(verdict, "id", "passed", "mistake", "message", "seconds")
    document = {**about, "failed": failed}
    output.show(document, as_json, human=lambda: _lines(verdict))
    if not verdict.passed:
        raise typer.Exit(FAILED)


def _exercise_of(file: Path) -> tuple[Exercise, str]:
    """Return the exercise that a file's first line names, and the file's text. Raises BadInput if there is none."""
    program = disk.take_text(file, 4 * judge.LONGEST, "file")
    first = program.partition("\n")[0].strip()
    if not first.startswith(_MARK):
        raise BadInput(f"{file} does not name its exercise: its first line has to be '{_MARK}ID'.", "file")
    return exercise(first.removeprefix(_MARK).strip()), program


def _judged(file: Path, learner: str | None) -> Verdict:
    """Return how a file does, and store it with the learner. Raises BadInput if it cannot be judged."""
    one, program = _exercise_of(file)
    try:
        verdict = judge.check(one, program)
    except RunError as error:
        raise BadInput(str(error)) from error
    known, name, begun = _begin(learner, one)
    begun["tries"] += 1
    progress.record(
        known, name, verdict, begun["tries"], begun["hints"], known.now().timestamp() - begun["since"]
    )
    _keep(known, name, one, {} if verdict.passed else begun)
    return verdict


def _lines(verdict: Verdict) -> list[Any]:
    right = sum(test.ok for test in verdict.tests)
    rows = [("passed" if test.ok else "FAILED", test.name, test.expected, test.got) for test in verdict.tests]
    title = f"{verdict.id}: {right} of {len(rows)} tests passed, {verdict.seconds:.1f} s"
    printed = ["It printed:", verdict.printed] if verdict.printed.strip() else []
    table = output.table(title, rows, ("", "test", "expected", "got"))
    return [table, *filter(None, [verdict.message]), *printed]


# ----------------------------------------
# What a learner has begun: when, tries and hints so far.


def _begin(learner: str | None, one: Exercise) -> tuple[Learners, str, dict[str, Any]]:
    """Return the learners' file, the learner, and what they have begun of an exercise, from now on if it is new."""
    file = Learners()
    name = learner or progress.first_learner(file)
    begun = (file.kept(name, _STATE) or {}).get(one.id)
    if not begun:
        begun = {"since": file.now().timestamp(), "tries": 0, "hints": 0}
        _keep(file, name, one, begun)
    return file, name, begun


def _keep(file: Learners, name: str, one: Exercise, begun: dict[str, Any]) -> None:
    file.keep(name, _STATE, {**(file.kept(name, _STATE) or {}), one.id: begun})


def _next_hint(learner: str | None, one: Exercise, number: int | None = None) -> str:
    """Return a hint, by default the one after those that were shown, and count it."""
    file, name, begun = _begin(learner, one)
    number = min(number or begun["hints"] + 1, len(one.hints))
    begun["hints"] = max(begun["hints"], number)
    _keep(file, name, one, begun)
    return f"Hint {number} of {len(one.hints)}: {one.hints[number - 1]}"


# ----------------------------------------


@command_of(kata, "show")
def show(
    name: Name,
    solution: Annotated[bool, option("--solution", None, "The solution, line by line.")] = False,
    stub: Annotated[bool, option("--stub", None, "The stub that 'kata start' writes.")] = False,
    hint: Annotated[int | None, option("--hint", "N", "A hint, 1 to 3.")] = None,
    learner: Learner = None,
    as_json: options.Json = False,
) -> None:
    """Show an exercise's task, its stub, a hint, or its solution."""
    one = exercise(name)
    if solution + stub + (hint is not None) > 1:
        raise BadInput("Give only one of --solution, --stub and --hint.")
    if hint is not None and not 1 <= hint <= len(one.hints):
        raise BadInput(f"'{name}' has hints 1 to {len(one.hints)}.", "hint")
    document: dict[str, Any] = {"id": one.id}
    if solution:
        document |= {"solution": one.solution, "explanation": one.explanation}
        parts = [f"{_MARK}{one.id}", one.solution, *_comments(one.explanation)]
        _next_hint(learner, one, len(one.hints))
    elif stub:
        document["stub"] = one.stub
        parts = [f"{_MARK}{one.id}", one.stub]
    elif hint is not None:
        document["hint"] = one.hints[hint - 1]
        parts = [_next_hint(learner, one, hint)]
    else:
        document |= output.attributes(one, "title", "task", "level", "minutes", "questions")
        parts = [f"{one.title} (level {one.level}, about {one.minutes} minutes)", one.task]
    output.show(document, as_json, human=lambda: parts)


@command_of(kata, "watch")
def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where your files are.")] = Path(),
    learner: Learner = None,
) -> None:
    """Check each file of a folder whenever you save it. Enter shows the next hint, q ends it."""
    folder = disk.folder(folder, "folder")
    output.note(judge.protection())
    output.note(f"Watching {folder}. Save a file to check it; press Enter for a hint, q and Enter to end.")
    judge.warm()
    current: Exercise | None = None
    for event in _events(folder):
        parts: list[Any]
        try:
            if isinstance(event, Path):
                current, _ = _exercise_of(event)
                parts = _lines(_judged(event, learner))
            else:
                parts = [
                    _next_hint(learner, current)
                    if current
                    else "Save your file first: hints are given for the file that you saved last."
                ]
        except PeftLabError as error:
            parts = [str(error)]
        output.show(None, as_json=False, human=lambda parts=parts: parts)  # type: ignore[misc]


def _events(folder: Path) -> Iterator[Path | None]:
    """Yield each file that is saved, and None for each line that is entered, until ``q``."""
    entered, seen = _entered(), _saved(folder)
    while True:
        _wait()
        now = _saved(folder)
        yield from (file for file, at in now.items() if seen.get(file) != at)
        seen = now
        while not entered.empty():
            if entered.get().strip().lower() == "q":
                return
            yield None


def _wait() -> None:
    time.sleep(_LOOKS)


def _entered() -> queue.SimpleQueue[str]:
    """Return a queue to which a thread adds the lines that are entered."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _saved(folder: Path) -> dict[Path, int]:
    """Return when the files of exercises were written last."""
    found = {}
    for file in sorted(folder.glob("*.py")):
        try:
            with file.open(encoding="utf-8") as text:
                if text.readline().startswith(_MARK):
                    found[file] = file.stat().st_mtime_ns
        except (OSError, ValueError):  # gone, or no text
            continue
    return found
