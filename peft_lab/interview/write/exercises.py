"""Read the exercises of *Write it*: one Markdown file each, ``interview/content/write/<path>/<id>.md``.

A file has a YAML head between two lines ``---``, the task, and the sections Stub, Examples, Cases, Solution, Hints and
Mistakes. Its code is Python in blocks; nothing here runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from peft_lab.core.content import mistake, read_entry
from peft_lab.core.errors import named

FOLDER = Path(__file__).parents[1] / "content" / "write"
#: The paths in the order of learning, with their titles.
PATHS: Mapping[str, str] = {
    "lora": "LoRA",
    "quantisation": "Quantisation",
    "virtual-tokens": "Virtual tokens",
    "adapters": "Adapters",
    "data": "Data",
    "memory": "Optimisers and memory",
    "serving": "Serving",
    "preference": "Preference",
    "sharding": "Sharding",
}
SECTIONS = ("Stub", "Examples", "Cases", "Solution", "Hints", "Mistakes")
HINTS, EXAMPLES, MISTAKES = 3, 2, 3  # that each exercise has: exactly, exactly, at least

_HEAD = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)
_BLOCK = re.compile(r"```python\n(.*?\n)```[ \t]*(?:\n|$)", re.DOTALL)
_MISTAKE = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*): (.+)")
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_ITEM = re.compile(r"(?:-|\d\.) +")


@dataclass(frozen=True, kw_only=True)
class Head:
    """What an exercise's YAML head states.

    Attributes:
        level: 1 to 3. minutes: how long a prepared candidate takes.
        function: the name of the function or class that the learner writes.
        scratch: where the same thing stands in ``peft_lab/scratch``, as ``lora.merge``; empty if nowhere.
        tolerance: relative and absolute.
        questions: ids of the bank's questions that an interviewer asks next.
    """

    title: str
    level: int
    minutes: int
    function: str
    questions: tuple[str, ...]
    scratch: str = ""
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.level not in (1, 2, 3):
            raise ValueError("its level is 1, 2 or 3")
        if not self.function.isidentifier():
            raise ValueError(f"'{self.function}' is no name of a function")


@dataclass(frozen=True)
class Mistake:
    """A typical mistake: what is wrong, as said to the learner, what happens then, and the wrong definitions."""

    id: str
    sentence: str
    explanation: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Exercise(Head):
    """One exercise.

    Attributes:
        path: the name of its path (:data:`PATHS`). file: where it is written.
        task: Markdown. stub, solution: whole programs.
        examples: code whose last line is an expression; what it gives is computed.
        cases: the program that defines ``cases`` and, optionally, ``measure``.
        explanation: the solution line by line, Markdown. hints: each says more than the one before it.
    """

    id: str
    path: str
    file: Path
    task: str
    stub: str
    examples: tuple[str, ...]
    cases: str
    solution: str
    explanation: tuple[str, ...]
    hints: tuple[str, ...]
    mistakes: tuple[Mistake, ...]

    def mistaken(self, mistake: Mistake) -> str:
        """Return the whole wrong program of a mistake."""
        return f"{self.solution}\n\n{mistake.code}"


def read_exercise(file: Path) -> Exercise:
    """Return the exercise in a file. Raises ContentError: a mistake in the file, with its line."""
    text = file.read_text("utf-8")
    head = _HEAD.match(text)
    if head is None:
        raise mistake(file, "an exercise begins with a head between two lines '---'.")
    stated = read_entry(file, Head, {float: float}, text=f"---\n{head[1]}")  # YAML 1.1 has 1e-5 as a text
    if file.parent.name not in PATHS or not _ID.fullmatch(file.stem):
        raise mistake(file, f"it has to be <path>/<id>.md, the path one of {', '.join(PATHS)}.")
    task, *parts = re.split(r"^## +", text[head.end() :], flags=re.MULTILINE)
    sections = dict(_titled(part) for part in parts)
    if (names := [_titled(part)[0] for part in parts]) != list(SECTIONS):
        wrong = next((name for name in names if name not in SECTIONS or names.count(name) > 1), "")
        raise mistake(file, f"its sections are {', '.join(SECTIONS)}.", *([f"## {wrong}"] if wrong else []))
    if not task.strip():
        raise mistake(file, "the task comes after the head.")
    found = {name: _BLOCK.findall(sections[name]) for name in SECTIONS[:4]}
    for name, each in found.items():
        if len(each) != 1:
            raise mistake(
                file, f"{name}: one block '```python' is needed, there are {len(each)}.", f"## {name}"
            )
    blocks = {name: str(each[0]) for name, each in found.items()}
    after = _BLOCK.sub("", sections["Solution"])
    examples = tuple(part.strip() for part in re.split(r"\n\s*\n", blocks["Examples"]) if part.strip())
    hints = _items(sections["Hints"])
    for what, held, wanted in (("Examples", examples, EXAMPLES), ("Hints", hints, HINTS)):
        if len(held) != wanted:
            raise mistake(file, f"{what}: {wanted} are needed, there are {len(held)}.", f"## {what}")
    for name in ("Stub", "Solution"):
        if not re.search(rf"^(def|class) {stated.function}\b", blocks[name], re.MULTILINE):
            raise mistake(file, f"{name}: it does not define '{stated.function}'.", f"## {name}")
    if not re.search(r"^def cases\(", blocks["Cases"], re.MULTILINE):
        raise mistake(file, "Cases: the block must define the function 'cases(random)'.", "## Cases")
    return Exercise(
        **vars(stated),
        id=file.stem,
        path=file.parent.name,
        file=file,
        task=task.strip(),
        stub=blocks["Stub"],
        examples=examples,
        cases=blocks["Cases"],
        solution=blocks["Solution"],
        explanation=_items(after),
        hints=hints,
        mistakes=tuple(_mistakes(file, sections["Mistakes"])),
    )


def _titled(part: str) -> tuple[str, str]:
    title, _, rest = part.partition("\n")
    return title.strip(), rest


def _items(section: str) -> tuple[str, ...]:
    """Return a list's items without their marks, each as one line."""
    items: list[str] = []
    for line in section.strip().splitlines():
        if (mark := _ITEM.match(line)) or not items:
            items.append(line[mark.end() if mark else 0 :])
        else:
            items[-1] += f" {line.strip()}"
    return tuple(item.strip() for item in items)


def _mistakes(file: Path, section: str) -> Iterator[Mistake]:
    before, *parts = re.split(r"^### +", section, flags=re.MULTILINE)
    if before.strip() or len(parts) < MISTAKES:
        sentence = f"Mistakes: at least {MISTAKES} are needed, each under '### id: sentence'."
        raise mistake(file, sentence, "## Mistakes")
    known: set[str] = set()
    for title, rest in map(_titled, parts):
        headed, blocks = _MISTAKE.fullmatch(title), _BLOCK.findall(rest)
        if headed is None or headed[1] in known or len(blocks) != 1:
            needed = "a mistake needs an id of its own, a sentence and one block '```python'."
            raise mistake(file, needed, "## Mistakes", f"### {title}")
        known.add(headed[1])
        yield Mistake(headed[1], headed[2].strip(), _BLOCK.sub("", rest).strip(), blocks[0])


def read_exercises(folder: Path = FOLDER) -> dict[str, Exercise]:
    """Return the exercises of a folder by id, path by path, easy ones first. Raises ContentError: a mistake in a file,
    with its line."""
    known: dict[str, Exercise] = {}
    for file in sorted(folder.glob("*/*.md")):
        if file.stem in known:
            raise mistake(file, f"there is an exercise '{file.stem}' in {known[file.stem].path} already.")
        known[file.stem] = read_exercise(file)
    order = list(PATHS)
    ordered = sorted(known.values(), key=lambda one: (order.index(one.path), one.level, one.minutes, one.id))
    return {one.id: one for one in ordered}


@cache
def exercises() -> Mapping[str, Exercise]:
    """Return every exercise by id, path by path, easy ones first."""
    return read_exercises(FOLDER)


def exercise(name: str) -> Exercise:
    """Return an exercise by id. Raises :class:`UnknownName` with the nearest one."""
    return named("exercise", name, exercises(), "exercise")
