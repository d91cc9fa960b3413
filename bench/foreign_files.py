"""Read other projects' own example configs: ``python -m bench.foreign_files FOLDER [--every N] [--write]``.

FOLDER holds clones, bare or not, each in a folder whose path names owner and repository: ``owner/name`` or
``owner+name``. Every N-th example of a project is taken in the order of its paths, so nobody picks the easy ones.
``bench/foreign_expected.json`` says for each what a person read in the file; a reading that says otherwise is wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peft_lab.advise.foreign.reading import Reading, read
from peft_lab.core.errors import BadInput

#: Where a project keeps its examples, and which of them are taken: every so many.
EXAMPLES = {
    "axolotl-ai-cloud/axolotl": (r"examples/.*\.ya?ml|deepspeed_configs/.*\.json", 18),
    "hiyouga/LLaMA-Factory": (r"examples/.*\.(ya?ml|json|sh)", 9),
    "pytorch/torchtune": (r"recipes/configs/.*\.yaml", 18),
    "huggingface/trl": (
        r"examples/(accelerate|cli)_configs/.*\.yaml|examples/(notebooks|scripts)/.*\.(ipynb|py)",
        10,
    ),
    "huggingface/alignment-handbook": (r"recipes/.*\.yaml", 4),
    "huggingface/accelerate": (r"examples/.*\.ya?ml", 2),
    "unslothai/notebooks": (r"nb/(?!AMD|Kaggle|HuggingFace).*\.ipynb", 16),
    "deepspeedai/DeepSpeedExamples": (r".*/(ds_config|zf_config).*\.json", 8),
}
EXPECTED = Path(__file__).with_name("foreign_expected.json")
RESULT = Path(__file__).parent / "results" / "foreign_files.json"
#: The settings that a person compares.
COMPARED = (
    "model", "seq", "batch", "accumulate", "epochs", "steps", "optimizer", "learning_rate", "dtype", "checkpointing",
    "offload", "loss", "sharding", "sharding_offload", "devices", "objective", "packing", "r", "lora_alpha",
    "target_modules", "use_dora", "use_rslora", "load_in_8bit", "compile", "attention", "updates",
)  # fmt: skip


def git(folder: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True).stdout


def repositories(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each project with the folder of its clone, if there is one."""
    for name in EXAMPLES:
        for place in (
            folder / name,
            folder / name.replace("/", "+"),
            folder / name.replace("/", "+") / "repo",
        ):
            if place.is_dir() and ((place / "HEAD").exists() or (place / ".git").exists()):
                yield name, place
                break


def said(reading: Reading) -> dict[str, Any]:
    """Return what a person compares of a reading."""
    found = {
        name: reading.settings[name] for name in COMPARED if reading.settings.get(name) not in (None, False)
    }
    knobs = {"r", "lora_alpha", "target_modules"} if reading.method == "full" else set()
    kept = {name: value for name, value in found.items() if name not in knobs}
    return {"tool": reading.tool, "method": reading.method, **kept}


def looked_at(name: str, path: str, text: str) -> dict[str, Any]:
    """Return a file's row: what was read, or why it was refused, and the number of keys."""
    try:
        reading = read(text, path)
    except BadInput as error:
        return {"file": f"{name}/{path}", "refused": str(error)}
    unknown = [one.key for one in reading.ignored if "does not know" in one.why]
    counts = {"understood": len(reading.understood), "ignored": len(reading.ignored), "unknown": unknown}
    return {"file": f"{name}/{path}", "read": said(reading), **counts}


def rows_of(folder: Path, every: int | None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return a row for each example taken, and each project's commit."""
    rows, commits = list[dict[str, Any]](), dict[str, str]()
    for name, place in repositories(folder):
        pattern, step = EXAMPLES[name]
        commits[name] = git(place, "rev-parse", "HEAD").decode().strip()
        paths = git(place, "ls-tree", "-r", "--name-only", "-z", "HEAD").decode().split("\0")
        for path in sorted(one for one in paths if re.fullmatch(pattern, one))[:: every or step]:
            text = git(place, "show", f"HEAD:{path}").decode("utf-8", "replace")
            rows.append(looked_at(name, path, text))
    return rows, commits


def table(rows: list[dict[str, Any]], commits: dict[str, str], expected: dict[str, Any]) -> dict[str, Any]:
    """Return the rows as a table for RESULTS.md, with a verdict for each file."""
    cells = []
    for row in rows:
        verdict = "refused" if "refused" in row else "understood"
        if expected.get(row["file"], found := row.get("read", row.get("refused"))) != found:
            verdict = "wrong"
        told = row.get("refused") or f"{row['read']['tool']}, {row['read']['method'] or 'no method'}"
        counts = [row["understood"], row["ignored"], len(row["unknown"])] if "read" in row else "–"
        at = commits["/".join(row["file"].split("/")[:2])][:7]
        cells.append([f"{row['file']}@{at}", verdict, told, counts])
    names = ("file", "verdict", "read as, or why it was refused", "keys: understood, ignored, unknown")
    columns: list[dict[str, Any]] = [{"name": name, "align": "left"} for name in names]
    columns[-1] |= {"align": "right", "forms": ["{:d}, {:d}, {:d}"]}
    return {
        "section": "Other tools' config files", "command": "python -m bench.foreign_files FOLDER --write",
        "machine": "any: nothing is timed", "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": git(Path(__file__).parent, "rev-parse", "--short=8", "HEAD").decode().strip(),
        "columns": columns, "rows": cells, "commits": commits,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, help="take every N-th example of all projects (1: all)")
    parser.add_argument("--write", action="store_true", help="write bench/results/foreign_files.json")
    parser.add_argument(
        "--accept", action="store_true", help="keep these readings as what a person read in the files"
    )
    options = parser.parse_args()
    rows, commits = rows_of(options.folder, options.every)
    expected = json.loads(EXPECTED.read_text("utf-8")) if EXPECTED.exists() else {}
    made = table(rows, commits, expected)
    for row in rows:
        print(json.dumps(row))
    print(Counter(cell[1] for cell in made["rows"]), len(rows), "files")
    if options.accept:
        said_ = {row["file"]: row.get("read", row.get("refused")) for row in rows}
        EXPECTED.write_text(json.dumps(said_, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if options.write:
        RESULT.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
