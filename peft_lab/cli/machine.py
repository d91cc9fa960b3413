"""``doctor``: what this machine has and whether everything works on it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peft_lab import doctor
from peft_lab.cli import options, output
from peft_lab.cli.application import command


@command("doctor")
def doctor_command(
    verify: Annotated[
        bool, typer.Option("--verify", help="Also hash all weights and data, to find damage on the disk.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Look at this machine: packages, device, memory, weights. A failed check says what to do about it."""
    found = doctor.examine(verify)

    def human() -> list[Any]:
        lines = [
            ("ok" if check["ok"] else "NOT OK", check["name"], check["detail"]) for check in found["checks"]
        ]
        python, device = found["python"], found["device"]
        facts = [
            ("Python", f"{python['version']} on {python['platform']}"),
            ("Device", " ".join(f"{key} {value}" for key, value in device.items())),
            ("Processor features", ", ".join(found["cpu_features"]) or "not listed by this system"),
            *((name, version or "missing") for name, version in found["packages"].items()),
        ]
        return [
            output.table("This machine (measured)", {"what": "left", "found": "left"}, facts),
            output.table("Checks", {"": "left", "check": "left", "detail": "left"}, lines),
        ]

    output.show(found, as_json, human=human)
