"""Make the cases of the Debug clinic: run every fault once, and its healthy counterpart, and ship what they showed.

    OMP_NUM_THREADS=1 python -m tools.make_clinic [FAULT...]

Writes ``peft_lab/interview/clinic/shown/FAULT.json``. What a case shows is what the run left: the config, the
training arguments, the losses, the console's last lines, and where the fault is one of use, outputs. Commit them.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from peft_lab.core.machine import describe_machine
from peft_lab.interview.clinic import faults
from peft_lab.models import loading
from peft_lab.runs.record import PACKAGES
from peft_lab.training.batches import render
from tools.clinic_made.faults import NEEDS, SPOILS
from tools.clinic_made.in_use import USED, loss_of, prepared
from tools.clinic_made.runs import Ran, finite, run
from tools.clinic_made.setup import TINY, WRITER, Setup, splits_of

LINES, WIDTH = 8, 220  # of a console that are kept
SKIPPED = ("```", "Loading weights", "Notes:", "- MISSING", "Key ", "---")
FIELDS = (
    "peft_type", "task_type", "base_model_name_or_path", "r", "lora_dropout", "target_modules",
    "modules_to_save", "init_lora_weights", "num_virtual_tokens", "auto_mapping",
)  # fmt: skip
#: Cases on the live MiniLM, beside those that need it; the others are on the small writer, which takes seconds.
ON_ENCODER = ("rate-too-high", "target-partly-misspelt", "wrong-base")
#: Its one sign is a line of the console that names it.
UNSHOWN = ("merged-into-4-bit",)


def setup_for(fault: str) -> Setup:
    """A healthy run for the case."""
    if NEEDS.get(fault, TINY) == TINY and fault not in ON_ENCODER:
        return Setup(model=TINY, task="json", targets=("q_proj", "v_proj"), rate=5e-3, steps=30, batch=8)
    return Setup(rate=5e-3, steps=20, batch=8, targets=("query", "value"))


def shown(ran: Ran, outputs: list[list[str]]) -> dict[str, Any]:
    """What the learner sees of a run."""
    config = {}
    file = ran.folder / "adapter_config.json"
    if file.exists():
        found = json.loads(file.read_text("utf-8"))
        config = {name: found[name] for name in FIELDS if found.get(name) is not None}
        for name in ("target_modules", "modules_to_save"):
            if isinstance(config.get(name), list):
                config[name] = sorted(config[name])
    lines = [line.rstrip()[:WIDTH] for line in ran.console.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(SKIPPED) and line[:2] != "{'"]
    tokenizer = ran.base.tokenizer
    return {
        "config": config,
        "arguments": json.loads((ran.folder / "arguments.json").read_text("utf-8")),
        "tokens": {"pad": tokenizer.pad_token, "eos": tokenizer.eos_token, "count": len(tokenizer)},
        "rows": [
            [row.get("step"), *(finite(float(row[name])) if name in row else None
                                for name in ("loss", "grad_norm", "learning_rate", "eval_loss"))]
            for row in ran.rows
            if "loss" in row or "eval_loss" in row
        ],
        "console": list(dict.fromkeys(lines))[-LINES:],
        "tensors": tensors_of(ran.folder),
        "outputs": outputs,
    }  # fmt: skip


def tensors_of(folder: Path) -> list[list[Any]]:
    """The first tensors of the file and their largest entries, and how many there are."""
    from peft_lab.takeaway.ship.adapter import WEIGHTS, read_tensors

    file = folder / WEIGHTS
    if not file.exists():
        return []
    found = read_tensors(WEIGHTS, file.read_bytes())
    kept = list(found.items())[:3] + [item for item in found.items() if "classifier" in item[0]][:1]
    rows = [
        [name[-90:], list(each.shape), each.dtype,
         finite(max(abs(each.low), abs(each.high))) if each.low is not None and each.high is not None else "none"]
        for name, each in kept
    ]  # fmt: skip
    return [*rows, [f"{len(found)} tensors in all", [], "", ""]]


def case(fault: str, work: Path) -> dict[str, Any]:
    """Run it, both ways."""
    setup = setup_for(fault)
    ran = SPOILS[fault](setup, random.Random(7), work / "faulty")
    healthy = run(setup, work / "healthy")
    return {
        "faulty": shown(ran, []),
        "healthy": shown(healthy, []),
        "model": setup.model,
        "method": setup.method,
    }


def used(fault: str, work: Path) -> dict[str, Any]:
    """One training, used wrongly and rightly, each twice."""
    setup, wrong = prepared(fault, setup_for(fault)), USED[fault][1]
    ran = run(setup, work)
    ran.model.eval()
    asked = "Loss of 16 held-out rows, where the adapter is used"
    after = [["Loss of the same rows right after training", f"{loss_of(ran, ran.model):.4f}"]]
    faulty = [[asked, ", then again ".join(f"{wrong(ran):.4f}" for _ in range(2))]]
    right = [[asked, ", then again ".join(f"{loss_of(ran, ran.model):.4f}" for _ in range(2))]]
    if setup.template:
        text = splits_of(setup.task).test[0].text
        formatted = render(ran.base.tokenizer, text)
        after.append(["A prompt in training", formatted])
        faulty.append(["A prompt where the adapter is used", text])
        right.append(["A prompt where the adapter is used", formatted])
    return {
        "faulty": shown(ran, after + faulty), "healthy": shown(ran, after + right), "model": setup.model,
        "method": setup.method,
    }  # fmt: skip


def stamp() -> dict[str, Any]:
    return {
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": describe_machine(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def main() -> None:
    wanted = sys.argv[1:] or [name for name in (*SPOILS, *USED) if name not in UNSHOWN]
    folder = Path(faults.__file__).parent / faults.FOLDER
    folder.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp())
    for fault in wanted:
        if fault in USED:
            found = used(fault, work / fault)
        else:
            found = case(fault, work / fault)
            shutil.rmtree(work / fault, ignore_errors=True)
        document = {"fault": fault, **found, **stamp()}
        (folder / f"{fault}.json").write_text(
            json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
        )
        print(fault, (folder / f"{fault}.json").stat().st_size, file=sys.stderr, flush=True)


if __name__ == "__main__":
    loading.weights_of(WRITER)
    main()
