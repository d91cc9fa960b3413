"""Let learners and teachers join a class, by a code or by signing in, and list who has joined."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from peft_lab.classroom import places
from peft_lab.core import asking
from peft_lab.core import disk as storage
from peft_lab.core.asking import Asker, limits
from peft_lab.core.errors import BadInput, PeftLabError, UnreadableFile

# ----------------------------------------
# The cookie that identifies a learner: a random name, a role and a time, signed with the lab's secret (HMAC-SHA-256).
#
# It holds nothing about a person and is invalid in another lab.


COOKIE = "peft_lab_class"
MARK_LASTS = 180 * 24 * 3600  # seconds
LOGIN_LASTS = 12 * 3600  # seconds since signing in: who may do so no more is out on the next day
OWNER_DIGITS = 32
_CODE, _LOGIN = "1", "2"
_FORM = re.compile(
    r"(?P<said>(?P<kind>[12])\.(?P<owner>[0-9a-f]{32})\.(?P<role>[lt])\.(?P<issued>[0-9]{1,12}))\.(?P<sign>[0-9a-f]{64})"
)


def signed_mark(who: Asker, secret: str, now: float | None = None) -> str:
    """Return a person's cookie; of who signed in, its time is that of signing in, so that it expires with it."""
    issued = who.login or int(time.time() if now is None else now)
    said = f"{_LOGIN if who.login else _CODE}.{who.owner}.{'t' if who.teacher else 'l'}.{issued}"
    return f"{said}.{_sign(said, secret)}"


def read_mark(value: str, secret: str, now: float | None = None) -> Asker | None:
    """Return the person whom a cookie names; ``None`` if its signature is wrong or it has expired."""
    found = _FORM.fullmatch(value) if value.isascii() else None
    if found is None or not hmac.compare_digest(_sign(found["said"], secret), found["sign"]):
        return None
    issued, login = int(found["issued"]), found["kind"] == _LOGIN
    age = (time.time() if now is None else now) - issued
    if age > (LOGIN_LASTS if login else MARK_LASTS):
        return None
    return Asker(found["owner"], found["role"] == "t", issued if login else 0)


def same_owner(given: str, code: str) -> bool:
    """Return whether a typed code is right but for case, spaces and hyphens, in a time that tells nothing of it."""
    tidy = [re.sub(r"[\s-]", "", text).casefold().encode() for text in (given, code)]
    return hmac.compare_digest(*tidy)


def _sign(said: str, secret: str) -> str:
    return hmac.new(bytes.fromhex(secret), said.encode("ascii"), hashlib.sha256).hexdigest()


# ----------------------------------------
# Joining by signing in: an identity provider verifies people, and this class admits some of them.
#
# ``PEFT_LAB_CLASS_LOGIN`` lists whom: ``*`` (everybody that the provider verifies), ``@school.example``,
# ``ann@school.example``, separated by commas. ``PEFT_LAB_CLASS_TEACHERS`` lists the teachers' addresses. An address
# counts only if the provider states that it has verified it (OpenID Connect Core 1.0, section 5.1, ``email_verified``).


WHO_MAY_LOG_IN, TEACHERS = "PEFT_LAB_CLASS_LOGIN", "PEFT_LAB_CLASS_TEACHERS"
ANYBODY = "*"
_AHEAD = 300.0  # seconds that the provider's clock may be ahead of this one


def login_is_on() -> bool:
    """Return whether this class can be joined by signing in."""
    return asking.class_is_on() and bool(os.environ.get(WHO_MAY_LOG_IN, "").strip())


def is_listed(variable: str) -> tuple[str, ...]:
    """Return the addresses and domains that an environment variable lists, in lower case. Raises BadInput: an entry is
    no address; :data:`WHO_MAY_LOG_IN` may also hold domains and ``*``."""
    found = tuple(part.strip().casefold() for part in os.environ.get(variable, "").split(",") if part.strip())
    for each in found:
        name, at, domain = each.partition("@")
        whole = bool(at and domain and "@" not in domain and (name or variable == WHO_MAY_LOG_IN))
        if not whole and not (each == ANYBODY and variable == WHO_MAY_LOG_IN):
            more = ", '@school.example' or '*'" if variable == WHO_MAY_LOG_IN else ""
            raise BadInput(
                f"'{each[:60]}' in {variable} is not an address. Give one such as ann@school.example{more}."
            )
    return found


def verified_learner(claims: Mapping[str, Any], secret: str, now: float | None = None) -> tuple[Asker, str]:
    """Return the person whom the claims of an ID token, which has been checked, identify, and their name there.

    Raises:
        BadInput: the claims identify nobody, are too old, or belong to an account that this class does not admit.
    """
    issuer, subject, issued = (claims.get(name) for name in ("iss", "sub", "iat"))
    if not (isinstance(issuer, str) and issuer and isinstance(subject, str) and subject):
        raise BadInput("Your provider did not say who you are. Ask your teacher.", "login")
    at = time.time() if now is None else now
    if (
        isinstance(issued, bool)
        or not isinstance(issued, int | float)
        or not -_AHEAD <= at - issued <= LOGIN_LASTS
    ):
        raise BadInput("Your sign-in has expired. Sign in again.", "login")
    address = _address(claims)
    teacher = bool(address) and address in is_listed(TEACHERS)
    allowed = is_listed(WHO_MAY_LOG_IN)
    domain = f"@{address.rpartition('@')[2]}"
    if not teacher and ANYBODY not in allowed and not (address and {address, domain} & set(allowed)):
        raise BadInput(
            "This account does not belong to this class. Sign in with another account, or ask your teacher."
            if address
            else "Your provider has not verified your email address. Verify it there, or join with a code.",
            "login",
        )
    said = "\0".join(("login", issuer, subject)).encode()
    owner = hmac.new(bytes.fromhex(secret), said, hashlib.sha256).hexdigest()[:OWNER_DIGITS]
    name = claims.get("name")
    signed_in = int(min(at, float(issued or 0)))
    return Asker(owner, teacher, signed_in), name if isinstance(name, str) else ""


def _address(claims: Mapping[str, Any]) -> str:
    """Return the verified e-mail address in lower case; empty if there is none."""
    said = claims.get("email")
    if claims.get("email_verified") is not True or not isinstance(said, str) or said.count("@") != 1:
        return ""
    return said.strip().casefold()


# ----------------------------------------
# The secret that signs a class's cookies, and its codes: ``PEFT_LAB_HOME/class/keys.json``, readable by its user only.
#
# Deleting the file invalidates all cookies: everybody has to join again, as a new person.


_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # read aloud and written on a board: no i, l, o, 0, 1


def _code(length: int) -> str:
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(length))
    return "-".join(letters[at : at + 4] for at in range(0, length, 4))


@dataclass(frozen=True)
class Keys:
    """The keys of a class.

    Attributes:
        secret: 32 random bytes in hex. join: the learners' code if none was given. teacher: the teacher's code.
    """

    secret: str = field(default_factory=lambda: secrets.token_hex(32))
    join: str = field(default_factory=lambda: _code(8))
    teacher: str = field(default_factory=lambda: _code(16))


def class_keys() -> Keys:
    """Return this lab's keys; the first call creates them. Raises PeftLabError: other users can read the file, or it
    cannot be read or written."""
    path = places.shared() / places.FOLDER / "keys.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_keys(path)
        found = path.stat()
        if os.name == "posix" and found.st_mode & 0o077:
            raise PeftLabError(f"Other users can read {path}. Run 'chmod 600 {path}'.")
        return _read(path, found.st_ino, found.st_mtime_ns, found.st_size)
    except (OSError, UnreadableFile, KeyError, TypeError) as error:
        raise PeftLabError(
            f"The class keys in {path} cannot be read ({type(error).__name__}: {error})."
        ) from error


@lru_cache(maxsize=1)
def _read(path: Path, *_of_file: int) -> Keys:
    """Return the keys in a file; cached until it is replaced or changes, as every request asks for them."""
    content = storage.read_json(path)
    return Keys(**{each.name: str(content[each.name]) for each in fields(Keys)})


def _make_keys(path: os.PathLike[str]) -> None:
    """Create the file of keys unless it exists. It is linked when whole: of two processes the first wins."""
    if os.path.exists(path):  # noqa: PTH110
        return
    scratch = f"{os.fspath(path)}.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(Keys()), file, indent=2)
        try:
            os.link(scratch, path)
        except FileExistsError:
            return
    finally:
        os.unlink(scratch)  # noqa: PTH108


WHO = "who.json"
LEFT = "left"  # a file in the folder of who has left: no cookie leads there any more
LONGEST_NAME = 40
_TOUCHED = 300.0  # seconds between notes of a visit


class WrongCode(BadInput):
    """A code that is neither the learners' nor the teacher's."""


@dataclass(frozen=True)
class Learner:
    """One person as the teacher sees them.

    Attributes:
        owner: the name of their folder.
        number: their place in the order of joining. name: the name they chose, or an empty string.
        joined: seconds since 1970. seen: their last visit, in seconds since 1970, to within five minutes.
        teacher: whether they ever used the teacher's code, or last signed in as a teacher.
        left: whether they have left; the teacher keeps their work.
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
        """Return the person's name or number, with a note if they have left."""
        return (self.name or f"Learner {self.number}") + (" (left)" if self.left else "")


def admitted(cookie: str) -> Asker | None:
    """Return the person whom a cookie names; ``None`` if it is invalid, or the person was removed or has left."""
    found = read_mark(cookie, class_keys().secret)
    if found is None or not (folder := places.of(found.owner)).is_dir():
        return None
    return None if (folder / LEFT).exists() else found


def leave(owner: str) -> None:
    """Invalidate all cookies of a learner; the teacher keeps their work. Raises PeftLabError: the disk cannot be
    written, so they have not left."""
    try:
        (places.of(owner) / LEFT).touch()
    except OSError as error:
        raise PeftLabError(f"You could not leave: on the server, {storage.reason(error)}.") from error


def join(code: str, name: str = "", before: Asker | None = None) -> tuple[Asker, str]:
    """Admit a person who knows the learners' or the teacher's code, typed as ``code``; return them and their cookie.

    ``before``: the person this browser already was; they keep their work.

    Raises:
        WrongCode: it is neither code. BadInput: the class is full. PeftLabError: the disk cannot be written.
    """
    known = class_keys()
    teacher = same_owner(code, known.teacher)
    if not teacher and not same_owner(code, asking.join_code()):
        raise WrongCode("This code is wrong. Ask your teacher for the code of the class.", "code")
    if before is not None and places.of(before.owner).is_dir():
        owner = before.owner
        if teacher:
            _note_role(owner, True)
    else:
        owner = _new(name, teacher)
    who = Asker(owner, teacher, before.login if before is not None and owner == before.owner else 0)
    return who, signed_mark(who, known.secret)


def join_verified(claims: Mapping[str, Any]) -> tuple[Asker, str]:
    """Admit a person whom a provider has verified, the same each time; return them and their cookie.

    Raises:
        BadInput: this class does not admit the account, or is full. PeftLabError: the disk cannot be written.
    """
    known = class_keys()
    who, name = verified_learner(claims, known.secret)
    if not places.of(who.owner).is_dir():
        _new(name, who.teacher, who.owner)
    else:
        _note_role(who.owner, who.teacher)
    return who, signed_mark(who, known.secret)


def _new(name: str, teacher: bool, owner: str = "") -> str:
    """Create a person, unless they exist, and return their owner name. Raises BadInput: the class is full.
    PeftLabError: the disk cannot be written."""
    top = places.shared() / places.FOLDER
    with FileLock(top / ".joining.lock"):
        there = places.owners()
        if owner in there:  # a second page of theirs came first
            return owner
        found, known = limits(), [learner_of(each) for each in there]
        if sum(not each.teacher for each in known) >= found.learners and not teacher:
            raise BadInput(
                f"This class is full: it has room for {found.people}. Ask your teacher to raise the limit.",
                "code",
            )
        number = 1 + max((each.number for each in known), default=0)
        owner = owner or secrets.token_hex(OWNER_DIGITS // 2)
        name = " ".join(name.split())[:LONGEST_NAME]
        said = {"number": number, "name": name, "joined": time.time(), "teacher": teacher}
        _make(top / owner, json.dumps(said, ensure_ascii=False))
    return owner


def _make(folder: Path, said: str) -> None:
    """Create a person's folder with the note about them in one step: none is without a name or number."""
    scratch = folder.with_name(f".new-{secrets.token_hex(8)}")
    try:
        scratch.mkdir(mode=0o700)
        (scratch / WHO).write_text(said, "utf-8")
        scratch.replace(folder)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        reason = storage.reason(error)  # read by who has not joined: it names no folder of the server
        raise PeftLabError(f"Nobody can join now: on the server, {reason}. Tell your teacher.") from error


def _note_role(owner: str, teacher: bool) -> None:
    """Grant or revoke the teacher role. A damaged note is left as it is."""
    path = places.of(owner) / WHO
    if learner_of(owner).teacher is teacher:
        return
    with suppress(OSError, UnreadableFile, TypeError):
        storage.write_json(path, {**storage.read_json(path), "teacher": teacher})


def learner_of(owner: str) -> Learner:
    """Return what is known about a person. If the note is damaged, the number is 0 and the name empty."""
    path = places.of(owner) / WHO
    try:
        said = storage.read_json(path)
        number, name, joined = int(said["number"]), str(said["name"]), float(said["joined"])
        seen, teacher = max(joined, path.stat().st_mtime), said.get("teacher") is True
    except (OSError, UnreadableFile, ValueError, KeyError, TypeError):
        number, name, joined, seen, teacher = 0, "", 0.0, _changed(path.parent), False
    return Learner(owner, number, name[:LONGEST_NAME], joined, seen, teacher, (path.parent / LEFT).exists())


def learners() -> list[Learner]:
    """Return all who joined except teachers, in the order of joining. Raises NotATeacher for anybody but a teacher."""
    places.require_teacher()
    found = [one for one in map(learner_of, places.owners()) if not one.teacher]
    return sorted(found, key=lambda one: (one.number, one.owner))


def without_teachers(owners: Iterable[str]) -> list[str]:
    """Return those of the owners who are not teachers."""
    return [owner for owner in owners if not learner_of(owner).teacher]


def note_visit(owner: str) -> None:
    """Record a visit, at most once in five minutes. Learners who stay away for long are removed."""
    path = places.of(owner) / WHO
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _TOUCHED:
            os.utime(path)


def forget(owner: str) -> None:
    """Delete a learner with all their data. The folder disappears in one step, then its content is deleted. Raises
    OSError: the folder cannot be moved or deleted."""
    folder = places.of(owner)
    trash = folder.with_name(f".gone-{secrets.token_hex(8)}")
    folder.replace(trash)
    shutil.rmtree(trash)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
