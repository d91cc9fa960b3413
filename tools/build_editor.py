"""Bundle the editor of the page *Write it*: `python -m tools.build_editor` (needs npm, which fetches CodeMirror).

The releases are pinned in ``tools/codemirror/package.json`` and its lock file. The bundle lies in
``peft_lab/ui/web/codemirror`` with a hash of its bytes in its name, since browsers keep it for good, beside the license
of every package in it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "tools/codemirror"
TO = ROOT / "peft_lab/ui/web/codemirror"
FLAGS = (
    "--bundle",
    "--minify",
    "--format=esm",
    "--target=es2022",
    "--charset=ascii",
    "--legal-comments=none",
)


def licenses(modules: Path, bundled: set[str]) -> str:
    """Return name, release and license text of each bundled package; equal texts stand once."""
    holders: dict[str, list[str]] = {}
    for name in sorted(bundled):
        release = json.loads((modules / name / "package.json").read_text("utf-8"))["version"]
        holders.setdefault((modules / name / "LICENSE").read_text("utf-8").strip(), []).append(
            f"{name} {release}"
        )
    return "\n\n----\n\n".join(f"{', '.join(names)}\n\n{text}" for text, names in holders.items()) + "\n"


def main() -> None:
    TO.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for file in RECIPE.iterdir():
            shutil.copy(file, place)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=place, check=True)
        command = [
            "node_modules/.bin/esbuild",
            "entry.js",
            *FLAGS,
            "--outfile=made.js",
            "--metafile=made.json",
        ]
        subprocess.run(command, cwd=place, check=True)
        inputs = json.loads((Path(place) / "made.json").read_text("utf-8"))["inputs"]
        names = {_package(path) for path in inputs if path.startswith("node_modules/")}
        script = (Path(place) / "made.js").read_bytes()
        for old in TO.iterdir():
            old.unlink()
        (TO / f"codemirror.{hashlib.sha256(script).hexdigest()[:8]}.js").write_bytes(script)
        (TO / "LICENSE.txt").write_text(licenses(Path(place) / "node_modules", names), "utf-8")


def _package(path: str) -> str:
    """Return the package of a file: ``@codemirror/view`` or ``crelt``."""
    parts = path.split("/")[1:]
    return "/".join(parts[: 2 if parts[0].startswith("@") else 1])


if __name__ == "__main__":
    main()
