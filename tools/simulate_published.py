"""Simulate every published row again: ``python -m tools.simulate_published``.

Writes ``peft_lab/engine/published/simulated.json``, which the Memory page shows beside the published figures. The row
that PEFT now runs in another way stays as ``tools.simulate_superseded`` found it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from peft_lab.core.errors import PeftLabError
from peft_lab.engine import published
from peft_lab.engine.published import PublishedOutcome

FILE = Path(published.__file__).parent / published.RESULTS
PACKAGES = ("torch", "transformers", "peft")


def outcome(experiment: str) -> PublishedOutcome:
    """What the simulation says of a row, or why it says nothing."""
    try:
        return PublishedOutcome.of(published.simulate(experiment))
    except PeftLabError as error:
        return PublishedOutcome(None, None, str(error))


def main() -> None:
    found = {}
    for experiment, row in published.rows().items():
        superseded = experiment in published.SUPERSEDED
        found[experiment] = published.simulated()[experiment] if superseded else outcome(experiment)
        error = published.error(row, found[experiment])
        shown = found[experiment].reason if error is None else f"{error:+.2f}%"
        print(f"{experiment:<48}{shown}", file=sys.stderr, flush=True)
    kept = {
        "command": "python -m tools.simulate_published",
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "rows": {experiment: asdict(one) for experiment, one in found.items()},
    }
    FILE.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
