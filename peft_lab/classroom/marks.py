"""The cookie by which a learner is known: a random name, a role and a time, signed with the lab's secret
(HMAC-SHA-256).

It holds nothing about a person and means nothing to another lab.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time

from peft_lab.classroom.asking import Asker

COOKIE = "peft_lab_class"
LASTS = 180 * 24 * 3600  # seconds
_FORM = re.compile(
    r"(?P<said>1\.(?P<owner>[0-9a-f]{32})\.(?P<role>[lt])\.(?P<issued>[0-9]{1,12}))\.(?P<sign>[0-9a-f]{64})"
)


def new_owner() -> str:
    """A name that nobody has."""
    return secrets.token_hex(16)


def signed(who: Asker, secret: str, now: float | None = None) -> str:
    """The cookie's value for this person, issued now."""
    issued = int(time.time() if now is None else now)
    said = f"1.{who.owner}.{'t' if who.teacher else 'l'}.{issued}"
    return f"{said}.{_sign(said, secret)}"


def read(value: str, secret: str, now: float | None = None) -> Asker | None:
    """Who a cookie names; ``None`` for one that this secret did not sign, or that is too old."""
    found = _FORM.fullmatch(value) if value.isascii() else None
    if found is None or not hmac.compare_digest(_sign(found["said"], secret), found["sign"]):
        return None
    age = (time.time() if now is None else now) - int(found["issued"])
    return Asker(found["owner"], found["role"] == "t") if age <= LASTS else None


def same(given: str, code: str) -> bool:
    """Whether a code was typed right, whatever its case, spaces and hyphens; takes as long for any wrong one."""
    tidy = [re.sub(r"[\s-]", "", text).casefold().encode() for text in (given, code)]
    return hmac.compare_digest(*tidy)


def _sign(said: str, secret: str) -> str:
    return hmac.new(bytes.fromhex(secret), said.encode("ascii"), hashlib.sha256).hexdigest()
