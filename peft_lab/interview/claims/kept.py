"""Results that ship with the lab, of the checks that take seconds: those that need torch, on their first model.

``found.json`` is written by ``python -m tools.refresh_claims``; a slow test runs every check again. It says with which
libraries, where and when they were found, and so does whoever shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.interview.claims.base import Found

KEPT_FILE = "found.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True)
class Taken:
    """How the kept results were found.

    Attributes:
        packages: name -> version. date: year-month-day. machine: processor and system, as a sentence would have it.
    """

    packages: Mapping[str, str]
    date: str
    machine: str

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        return f"{self.date} on {self.machine}, with {libraries}"

    def differing(self) -> dict[str, str]:
        """The libraries that are installed here in another version, with that version."""
        return {name: here for name, here in kept_versions().items() if here != self.packages[name]}


def kept_versions() -> dict[str, str]:
    """The libraries that results depend on, as installed; without a build's local part."""
    return {name: metadata.version(name).partition("+")[0] for name in PACKAGES}


@cache
def result_seconds() -> Taken:
    """How, where and when the kept results were found."""
    content = _read()
    return Taken(content["packages"], content["date"], content["machine"])


def kept_result(claim: str) -> Found | None:
    """The kept result of a claim, ``None`` where there is none."""
    known = _read()["found"].get(claim)
    return Found(**known) if known is not None else None


def is_settled(name: str, model: str | None = None) -> tuple[Found, bool]:
    """What is found, kept results included, and whether it was kept. Runs torch for what is neither kept nor simple."""
    from peft_lab.interview.claims import get_claim

    claim = get_claim(name)
    known = kept_result(name) if claim.needs == "torch" and model in (None, claim.model) else None
    return (known, True) if known is not None else (claim.on(model), False)


@cache
def _read() -> dict[str, Any]:
    content: dict[str, Any] = disk.read_json(Path(__file__).with_name(KEPT_FILE))
    return content


# ----------------------------------------
# Claims as questions to another process: plain arguments in, plain data out.


def answer_claim(claim: str, model: str | None = None) -> Found:
    """:meth:`peft_lab.interview.claims.base.Claim.on` by the claim's id. Raises as there."""
    from peft_lab.interview.claims import get_claim

    return get_claim(claim).on(model)
