"""Simulate the published row that PEFT now runs in another way, with the layer that it was run with:

pip download --no-deps peft==0.20.0 && unzip -d OLD peft-0.20.0-*.whl && python -m tools.simulate_superseded OLD

All but that layer is the installed PEFT; its adapters stay in 16 bits, as the row's own settings say. The outcome goes
into ``peft_lab/engine/published/simulated.json``, where ``tools.simulate_published`` leaves it as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib import util
from pathlib import Path

from peft_lab.engine import published
from tools.simulate_published import FILE

LAYER = Path("peft/tuners/osf")
NOTE = "Simulated with PEFT 0.20.0's OSF layer, which it was run with, and adapters in 16 bits, as its settings say."
#: What the child process runs: with the older layer in front of the installed one.
CHILD = """
import json, sys
from functools import partial
import peft
peft.get_peft_model = partial(peft.get_peft_model, autocast_adapter_dtype=False)
from peft_lab.engine import published
found = published.simulate(sys.argv[1], superseded=True)
print(json.dumps([found.reserved_bytes, found.peak_bytes]))
"""


def simulate(older: Path, experiment: str) -> published.PublishedOutcome:
    """The row under its protocol, with the layer from the folder ``older``. Raises CalledProcessError."""
    spec = util.find_spec("peft")
    assert spec is not None and spec.origin is not None
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(Path(spec.origin).parent, Path(folder) / "peft")
        shutil.rmtree(Path(folder) / LAYER)
        shutil.copytree(older / LAYER, Path(folder) / LAYER)
        path = os.pathsep.join((folder, str(Path.cwd())))
        done = subprocess.run(
            [sys.executable, "-c", CHILD, experiment], env={**os.environ, "PYTHONPATH": path},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    reserved, tensors = json.loads(done.stdout.splitlines()[-1])
    return published.PublishedOutcome(reserved, tensors, note=NOTE)


def main() -> None:
    kept = json.loads(FILE.read_text("utf-8"))
    for experiment in published.SUPERSEDED:
        found = simulate(Path(sys.argv[1]), experiment)
        kept["rows"][experiment] = asdict(found)
        print(f"{experiment}: {published.error(published.rows()[experiment], found):+.2f}%")
    FILE.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
