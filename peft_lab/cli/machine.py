"""``doctor``: what this machine has and whether everything works on it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peft_lab import doctor
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.queue import calibrating
from peft_lab.timing import here
from peft_lab.timing.fitted import MEANINGS


@command("doctor")
def doctor_command(
    verify: Annotated[
        bool, typer.Option("--verify", help="Also hash all weights and data, to find damage on the disk.")
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="Measure how fast this processor is, to say how long trainings take."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Look at this machine: packages, device, memory, weights. A failed check says what to do about it."""
    if calibrate:
        calibrating.begin().result()
    found = {**doctor.examine(verify), "speed": here.known()}

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
            *_speeds(found["speed"]),
        ]
        return [
            output.table("This machine (measured)", {"what": "left", "found": "left"}, facts),
            output.table("Checks", {"": "left", "check": "left", "detail": "left"}, lines),
        ]

    output.show(found, as_json, human=human)


def _speeds(kept: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What was measured of the processor, a line for each figure."""
    if kept is None:
        return [("Speed", "not measured: --calibrate does")]
    return [
        (MEANINGS[name].capitalize(), f"{value:.4g} (measured {kept['measured']})")
        for name, value in kept["constants"].items()
        if value
    ]
