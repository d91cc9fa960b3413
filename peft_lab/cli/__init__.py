"""The command line: the app without the browser, for scripts, clusters and checks.

Every command prints a table, or with ``--json`` one JSON document on stdout and nothing else there; logs,
notes and progress go to stderr. Exit status: 0 success, 2 bad input (one line on stderr), 1 any other
expected failure (a failed run, missing weights), 130 interrupted. A traceback is a bug.

Without ``--method`` or ``--adapter-config``, ``count`` and ``memory`` take every method that applies to the
model and name the others, with reasons, on stderr. Naming a method that does not apply is bad input. If one
of several simulations fails, it is named on stderr, the others are the result, and the exit status is 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

from peft_lab.cli import (  # noqa: F401  each registers its commands
    catalog,  # methods, models, tasks, fetch, atlas, count
    compare,  # compare, sweep
    interview,  # questions, claims, diagnose
    kata,
    machine,  # doctor
    memory,
    plan,  # plan, recommend
    runs,  # runs, open, export
    ship,  # ship, check
    start,  # app, serve
    train,
)
from peft_lab.cli.application import UsageError, app, quieten_libraries, usage
from peft_lab.cli.output import standing
from peft_lab.core.asking import OPERATOR, Asker, acting_for
from peft_lab.core.errors import BadInput

__all__ = ["app", "main", "quieten_libraries", "run"]


def main() -> None:
    """Run the command line on this process's arguments and exit. Messages use the name it was invoked by."""
    quieten_libraries()
    with standing(), acting_for(Asker(OPERATOR)):
        app(prog_name="peft-lab" if Path(sys.argv[0]).stem == "peft-lab" else "python -m peft_lab")


def run(words: list[str]) -> int:
    """Run a command in this process; return its exit status. Raises BadInput, also for an option that there is not, and
    PeftLabError for any other expected failure."""
    try:
        status: int = app(words, standalone_mode=False) or 0
    except UsageError as error:
        raise BadInput(usage(error)) from None
    return status
