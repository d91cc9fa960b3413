"""Joining by signing in: who an identity provider vouches for, and whom of them this class lets in.

``PEFT_LAB_CLASS_LOGIN`` says who may: ``*`` (whoever the provider lets in), ``@school.example``,
``ann@school.example``, with commas between. ``PEFT_LAB_CLASS_TEACHERS`` holds the teachers' addresses. An address
counts only where the provider says that it has verified it (OpenID Connect Core 1.0, section 5.1, ``email_verified``).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.classroom import marks, mode
from peft_lab.errors import BadInput

WHO, TEACHERS = "PEFT_LAB_CLASS_LOGIN", "PEFT_LAB_CLASS_TEACHERS"
ANYBODY = "*"
_AHEAD = 300.0  # seconds that the provider's clock may be ahead of this one


@dataclass(frozen=True)
class Verified:
    """Attributes:
    owner: the name of their folder, which tells nothing about them. teacher: whether they are one here.
    name: as the provider has it. at: when the provider said so, in seconds since 1970.
    """

    owner: str
    teacher: bool
    name: str
    at: float


def on() -> bool:
    """Whether this class can be joined by signing in."""
    return mode.on() and bool(os.environ.get(WHO, "").strip())


def listed(variable: str) -> tuple[str, ...]:
    """What a variable holds, in small letters.

    Raises:
        BadInput: something that is no address, and for :data:`WHO` neither a domain nor ``*``.
    """
    found = tuple(part.strip().casefold() for part in os.environ.get(variable, "").split(",") if part.strip())
    for each in found:
        name, at, domain = each.partition("@")
        whole = bool(at and domain and "@" not in domain and (name or variable == WHO))
        if not whole and not (each == ANYBODY and variable == WHO):
            more = ", '@school.example' or '*'" if variable == WHO else ""
            raise BadInput(
                f"{variable} holds '{each[:60]}'; it takes addresses such as ann@school.example{more}."
            )
    return found


def verified(claims: Mapping[str, Any], secret: str, now: float | None = None) -> Verified:
    """Who somebody is by the claims of an ID token that has been checked (its signature, issuer, audience, nonce).

    Raises:
        BadInput: the claims name nobody, are too old, or this class does not let them in.
    """
    issuer, subject, issued = (claims.get(name) for name in ("iss", "sub", "iat"))
    if not (isinstance(issuer, str) and issuer and isinstance(subject, str) and subject):
        raise BadInput("Your provider did not say who you are.", "login")
    at = time.time() if now is None else now
    if (
        isinstance(issued, bool)
        or not isinstance(issued, int | float)
        or not -_AHEAD <= at - issued <= marks.LOGIN_LASTS
    ):
        raise BadInput("Signing in was too long ago. Sign in again.", "login")
    address = _address(claims)
    teacher = bool(address) and address in listed(TEACHERS)
    allowed = listed(WHO)
    domain = f"@{address.rpartition('@')[2]}"
    if not teacher and ANYBODY not in allowed and not (address and {address, domain} & set(allowed)):
        raise BadInput(
            "This account is not one of this class. Sign in with another, or ask your teacher."
            if address
            else "Your provider does not say that it has verified your address, so it cannot let you in here.",
            "login",
        )
    said = "\0".join(("login", issuer, subject)).encode()
    owner = hmac.new(bytes.fromhex(secret), said, hashlib.sha256).hexdigest()[: marks.OWNER_DIGITS]
    name = claims.get("name")
    return Verified(owner, teacher, name if isinstance(name, str) else "", min(at, float(issued or 0)))


def _address(claims: Mapping[str, Any]) -> str:
    """The verified address in small letters; empty without one."""
    said = claims.get("email")
    if claims.get("email_verified") is not True or not isinstance(said, str) or said.count("@") != 1:
        return ""
    return said.strip().casefold()
