"""How a training outside the lab tells of itself, in the format of :mod:`peft_lab.runs.events`. Written scripts hold
these functions as their source, which needs nothing of this package; ``runs --adopt`` takes such a folder as a run."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any

from peft_lab.export.calls import literal
from peft_lab.export.layout import Section
from peft_lab.export.source import printed
from peft_lab.plan.facts import Facts


def tell(folder: Path | None, kind: str, **fields: Any) -> None:
    """Append one event to the folder's file; nothing without a folder. Raises ValueError for what is no number."""
    if folder is not None:
        line = json.dumps({"time": time.time(), "type": kind, **fields}, allow_nan=False)
        with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def begin_telling(folder: Path | None, spec: dict[str, Any], found: dict[str, Any], first: int = 0) -> None:
    """Write down what is trained and who trains it, give a sign of life from now on, and tell of an error that ends it.

    Args:
        first: steps that were made before; those that a file of before tells of stay in it.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    events = folder / "events.jsonl"
    before = [json.loads(line) for line in events.read_text("utf-8").splitlines()] if events.exists() else []
    events.write_text("", "utf-8")
    (folder / "spec.json").write_text(json.dumps(spec, indent=2) + "\n", "utf-8")
    node = platform.node()
    owner = {"pid": os.getpid(), "started": time.time(), "host": f"{node}, outside the lab", "name": node}
    tell(folder, "queued", owner=owner, carrier="script")
    tell(folder, "starting")
    tell(folder, "ready", **found)
    for event in before:
        if event["type"] == "step" and event["step"] <= first:
            tell(
                folder, "step", **{key: value for key, value in event.items() if key not in ("type", "time")}
            )

    def beat() -> None:
        while folder.is_dir():
            (folder / "beat").touch()
            time.sleep(5)

    def failed(kind: Any, error: Any, trace: Any) -> None:
        tell(folder, "failed", message=f"{kind.__name__}: {error}")
        sys.__excepthook__(kind, error, trace)

    threading.Thread(target=beat, daemon=True).start()
    sys.excepthook = failed


def section(facts: Facts, seed: int, clip: float) -> Section:
    """What a script says of itself; only where it is asked to does it say so to the lab."""
    plan = facts.plan
    spec = {
        "model": facts.entry.name, "method": facts.method.slug, "task": "own", "values": dict(plan.values),
        "batch": plan.batch * plan.readers * plan.accumulate, "seed": seed, "learning_rate": plan.learning_rate,
        "max_length": plan.seq, "warmup": facts.said("warmup"), "clip": clip, "eval_rows": 0,
        "schedule": facts.said("schedule"),
    }  # fmt: skip
    lines = [
        f"SPEC = {literal(spec)}",
        f"TOTAL = {facts.entry.shape.total}  # parameters of the model",
        "RUN = Path(os.environ['PEFT_LAB_RUN']) if RANK == 0 and 'PEFT_LAB_RUN' in os.environ else None",
    ]
    return Section(
        "Telling",
        "With PEFT_LAB_RUN=FOLDER the first rank tells there what happens, step by step; `peft-lab runs --adopt "
        "FOLDER` shows it among the runs of PEFT Lab, also while it goes.",
        f"{printed(tell, begin_telling)}\n\n" + "\n".join(lines) + "\n",
        ("json", "os", "platform", "sys", "threading", "time", "pathlib:Path", "typing:Any"),
    )
