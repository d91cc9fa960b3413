"""``python -m peft_lab.runs.tracking [--as-it-stands] FOLDER HOME TRACKER...``: follow one run until it has ended."""

from __future__ import annotations

import sys
from pathlib import Path

from peft_lab.runs.store import Run
from peft_lab.runs.tracking.follow import follow
from peft_lab.runs.tracking.start import AS_IT_STANDS

if __name__ == "__main__":
    as_it_stands = sys.argv[1] == AS_IT_STANDS
    given = sys.argv[2:] if as_it_stands else sys.argv[1:]
    folder = Path(given[0])
    follow(Run(folder.name, folder), Path(given[1]), given[2:], as_it_stands)
