"""Joining a class: a code is checked, a learner gets a folder. And who has joined, as the teacher sees it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from peft_lab import disk as storage
from peft_lab.classroom import keys, marks, mode, places, verified
from peft_lab.classroom.asking import Asker
from peft_lab.classroom.limits import limits
from peft_lab.errors import BadInput, PeftLabError

WHO = "who.json"
LEFT = "left"  # a file in the folder of who has left: no cookie leads there any more
LONGEST_NAME = 40
_TOUCHED = 300.0  # seconds between notes of a visit


class WrongCode(BadInput):
    """What was given is neither the learners' code nor the teacher's."""


@dataclass(frozen=True)
class Learner:
    """One person as the teacher sees them.

    Attributes:
        number: by the order in which they joined. name: what they gave themselves, empty for nothing.
        joined, seen: seconds since 1970; seen to some minutes.
        teacher: they came with the teacher's code at least once, or signed in as one the last time.
        left: they gave up their cookie; what they made stays for the teacher.
    """

    owner: str
    number: int
    name: str
    joined: float
    seen: float
    teacher: bool = False
    left: bool = False

    @property
    def title(self) -> str:
        return (self.name or f"Learner {self.number}") + (" (left)" if self.left else "")


def admitted(cookie: str) -> Asker | None:
    """Who a cookie names, while their folder is there."""
    found = marks.read(cookie, keys.keys().secret)
    if found is None or not (folder := places.of(found.owner)).is_dir():
        return None
    return None if (folder / LEFT).exists() else found


def leave(owner: str) -> None:
    """Let nobody in any more by this learner's cookie, wherever it is kept. What they made stays for the teacher.

    Raises:
        PeftLabError: the disk cannot be written to, and they have not left.
    """
    try:
        (places.of(owner) / LEFT).touch()
    except OSError as error:
        raise PeftLabError(f"You have not left: on the server {storage.reason(error)}.") from error


def join(code: str, name: str = "", before: Asker | None = None) -> tuple[Asker, str]:
    """Let somebody in who knows the learners' or the teacher's code; who they are, and their cookie.

    Args:
        before: who this browser was already; they keep their work.

    Raises:
        WrongCode. BadInput: a class that is full. PeftLabError: the disk cannot be written to.
    """
    known = keys.keys()
    teacher = marks.same(code, known.teacher)
    if not teacher and not marks.same(code, mode.join_code()):
        raise WrongCode("This is not the code of this class.", "code")
    if before is not None and places.of(before.owner).is_dir():
        owner = before.owner
        if teacher:
            _note_role(owner, True)
    else:
        owner = _new(_tidy(name), teacher)
    who = Asker(owner, teacher, before.login if before is not None and owner == before.owner else 0)
    return who, marks.signed(who, known.secret)


def join_verified(claims: Mapping[str, Any]) -> tuple[Asker, str]:
    """Let somebody in whom a provider vouches for; who they are, the same each time, and their cookie.

    Args:
        claims: of an ID token that has been checked.

    Raises:
        BadInput: claims that this class does not take, or a class that is full. PeftLabError: the disk cannot be
            written to.
    """
    known = keys.keys()
    found = verified.verified(claims, known.secret)
    if not places.of(found.owner).is_dir():
        _new(_tidy(found.name), found.teacher, found.owner)
    else:
        _note_role(found.owner, found.teacher)
    who = Asker(found.owner, found.teacher, int(found.at))
    return who, marks.signed(who, known.secret)


def _tidy(name: str) -> str:
    return " ".join(name.split())[:LONGEST_NAME]


def _new(name: str, teacher: bool, owner: str = "") -> str:
    top = places.shared() / places.FOLDER
    with FileLock(top / ".joining.lock"):
        there = places.owners()
        if owner in there:  # a second page of theirs came first
            return owner
        found, known = limits(), [learner_of(each) for each in there]
        if sum(not each.teacher for each in known) >= found.learners and not teacher:
            raise BadInput(
                f"This class is full: it has room for {found.people}. Tell your teacher; more can be let in.",
                "code",
            )
        number = 1 + max((each.number for each in known), default=0)
        owner = owner or marks.new_owner()
        said = {"number": number, "name": name, "joined": time.time(), "teacher": teacher}
        _make(top / owner, json.dumps(said, ensure_ascii=False))
    return owner


def _make(folder: Path, said: str) -> None:
    """Somebody's folder with the note about them, in one step: without it, it would be a learner whom nobody is.

    Raises:
        PeftLabError: it cannot be written.
    """
    scratch = folder.with_name(f".new-{secrets.token_hex(8)}")
    try:
        scratch.mkdir(mode=0o700)
        (scratch / WHO).write_text(said, "utf-8")
        scratch.replace(folder)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        reason = storage.reason(error)  # read by who has not joined: it names no folder of the server
        raise PeftLabError(f"Nobody can join now: on the server {reason}. Tell your teacher.") from error


def _note_role(owner: str, teacher: bool) -> None:
    """Of who is a teacher from now on, or no more; a note that is damaged stays so."""
    path = places.of(owner) / WHO
    if learner_of(owner).teacher is teacher:
        return
    with suppress(OSError, ValueError, TypeError):
        said = {**json.loads(path.read_text("utf-8")), "teacher": teacher}
        scratch = path.with_name(f".{WHO}.{secrets.token_hex(4)}")
        scratch.write_text(json.dumps(said, ensure_ascii=False), "utf-8")
        scratch.replace(path)


def learner_of(owner: str) -> Learner:
    """What is known of one; a damaged note says nothing."""
    path = places.of(owner) / WHO
    try:
        said = json.loads(path.read_text("utf-8"))
        number, name, joined = int(said["number"]), str(said["name"]), float(said["joined"])
        seen, teacher = max(joined, path.stat().st_mtime), said.get("teacher") is True
    except (OSError, ValueError, KeyError, TypeError):
        number, name, joined, seen, teacher = 0, "", 0.0, _changed(path.parent), False
    return Learner(owner, number, name[:LONGEST_NAME], joined, seen, teacher, (path.parent / LEFT).exists())


def learners() -> list[Learner]:
    """Everybody but teachers, in the order in which they joined. For the teacher. Raises NotATeacher."""
    places.require_teacher()
    found = [one for one in map(learner_of, places.owners()) if not one.teacher]
    return sorted(found, key=lambda one: (one.number, one.owner))


def without_teachers(owners: Iterable[str]) -> list[str]:
    """Those of these owners who are learners."""
    return [owner for owner in owners if not learner_of(owner).teacher]


def note_visit(owner: str) -> None:
    """Keep that somebody was here, some minutes exact: who does not come for long is forgotten."""
    path = places.of(owner) / WHO
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _TOUCHED:
            os.utime(path)


def forget(owner: str) -> None:
    """Remove a learner with all that is theirs, out of sight in one step. Raises OSError."""
    folder = places.of(owner)
    trash = folder.with_name(f".gone-{secrets.token_hex(8)}")
    folder.replace(trash)
    shutil.rmtree(trash)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
