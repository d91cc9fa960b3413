"""Whether this is a class: the environment variable ``PEFT_LAB_CLASS`` holds the code by which learners join."""

from __future__ import annotations

import os

from peft_lab.errors import BadInput

VARIABLE = "PEFT_LAB_CLASS"
SHORTEST = 6  # characters of a code


def on() -> bool:
    """Whether this process serves a class, or works for one."""
    return bool(os.environ.get(VARIABLE))


def machine() -> str:
    """What the machine is called on which all of this lies: of a learner it is not the one before them."""
    return "your class's server" if on() else "this machine"


def join_code() -> str:
    """The learners' code.

    Raises:
        BadInput: it is too short to keep anybody out.
    """
    code = os.environ.get(VARIABLE, "").strip()
    if len(code) < SHORTEST:
        raise BadInput(f"{VARIABLE} is the code by which learners join: at least {SHORTEST} characters.")
    return code
