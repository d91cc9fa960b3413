"""Simulate what the page Memory opens with, and ship the answers: ``python -m tools.refresh_memory``."""

from __future__ import annotations

import json
from importlib import metadata

from peft_lab.engine.simulate import memory_of
from peft_lab.methods import all_methods
from peft_lab.ui.memory.bars import refusals
from peft_lab.ui.memory.controls import USUAL
from peft_lab.ui.memory.opening import FILE, written
from tools.refresh_choices import PACKAGES


def main() -> None:
    refused = refusals(USUAL.entry)
    steps = {slug: written(memory_of(USUAL.request(slug))) for slug in all_methods() if slug not in refused}
    content = {"packages": {name: metadata.version(name) for name in PACKAGES}, "steps": steps}
    FILE.write_text(json.dumps(content, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
