"""``python -m peft_lab.tracking FOLDER HOME TRACKER...``: follow one run until it has ended."""

from __future__ import annotations

import sys
from pathlib import Path

from peft_lab.runs.store import Run
from peft_lab.tracking.follow import follow

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    follow(Run(folder.name, folder), Path(sys.argv[2]), sys.argv[3:])
