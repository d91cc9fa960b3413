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
LOGIN_LASTS = 12 * 3600  # seconds since signing in: who may do so no more is out on the next day
OWNER_DIGITS = 32
_CODE, _LOGIN = "1", "2"
_FORM = re.compile(
    r"(?P<said>(?P<kind>[12])\.(?P<owner>[0-9a-f]{32})\.(?P<role>[lt])\.(?P<issued>[0-9]{1,12}))\.(?P<sign>[0-9a-f]{64})"
)


def new_owner() -> str:
    """A name that nobody has."""
    return secrets.token_hex(OWNER_DIGITS // 2)


def signed(who: Asker, secret: str, now: float | None = None) -> str:
    """The cookie's value for this person, issued now; of who signed in, at that time, which nothing here renews."""
    issued = who.login or int(time.time() if now is None else now)
    said = f"{_LOGIN if who.login else _CODE}.{who.owner}.{'t' if who.teacher else 'l'}.{issued}"
    return f"{said}.{_sign(said, secret)}"


def read(value: str, secret: str, now: float | None = None) -> Asker | None:
    """Who a cookie names; ``None`` for one that this secret did not sign, or that is too old."""
    found = _FORM.fullmatch(value) if value.isascii() else None
    if found is None or not hmac.compare_digest(_sign(found["said"], secret), found["sign"]):
        return None
    issued, login = int(found["issued"]), found["kind"] == _LOGIN
    age = (time.time() if now is None else now) - issued
    if age > (LOGIN_LASTS if login else LASTS):
        return None
    return Asker(found["owner"], found["role"] == "t", issued if login else 0)


def same(given: str, code: str) -> bool:
    """Whether a code was typed right, whatever its case, spaces and hyphens; takes as long for any wrong one."""
    tidy = [re.sub(r"[\s-]", "", text).casefold().encode() for text in (given, code)]
    return hmac.compare_digest(*tidy)


def _sign(said: str, secret: str) -> str:
    return hmac.new(bytes.fromhex(secret), said.encode("ascii"), hashlib.sha256).hexdigest()
