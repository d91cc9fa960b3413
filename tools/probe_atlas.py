"""Ask PEFT what every type of the atlas can do, and ship the answers: ``python -m tools.probe_atlas``.

Questions run in child processes with a limit on their time, on tiny models with random weights or on live ones. Answers
are stored one by one, so that a run can be stopped and goes on later; what differs from those before is printed.

    python -m tools.probe_atlas                      everything that has no answer with the installed versions
    python -m tools.probe_atlas --again              everything anew
    python -m tools.probe_atlas vera lora --cells merges,unmerges
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from filelock import FileLock

from peft_lab.atlas import entries, rows
from tools.atlas_probe import cells, costs, picture

PACKAGES = ("peft", "torch", "transformers", "bitsandbytes")
SECONDS, STARTING = 240.0, 360.0  # of one answer, on a busy machine; and before the first one
#: Besides the capabilities: what ΔW is, and what a step needs and takes.
EXTRAS = {"picture": picture.run, "costs": costs.run}
PRELOADED = [
    "peft_lab.core.quiet", "torch", "peft", "bitsandbytes", "transformers.models.llama.modeling_llama",
    "transformers.models.bert.modeling_bert", "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.t5.modeling_t5", "transformers.models.mixtral.modeling_mixtral",
    "transformers.integrations.bitsandbytes", "transformers.quantizers.quantizer_bnb_4bit", "tools.atlas_probe.cells",
]  # fmt: skip


def _child(pipe: Connection, names: list[str], cell: str) -> None:
    import warnings

    from peft_lab.core import quiet  # noqa: F401

    warnings.filterwarnings("ignore")
    for name in names:
        pipe.send(EXTRAS[cell](name) if cell in EXTRAS else cells.run(name, cell))


def ask(context: Any, names: list[str], cell: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Answers, or why there is none: the process took too long or died. One process answers about all types, since
    starting takes longest; after a failure another one goes on with the next type."""
    while names:
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(theirs, names, cell), daemon=True)
        child.start()
        theirs.close()
        asked, names = names, []
        for at, name in enumerate(asked):
            try:
                if mine.poll(SECONDS + (STARTING if at == 0 else 0)):
                    yield name, mine.recv()
                    continue
                why = f"It took longer than {SECONDS:.0f} seconds."
            except EOFError:
                child.join()
                why = f"The process that asked died (exit code {child.exitcode})."
            yield name, {"value": None, "why": why}
            names = asked[at + 1 :]
            break
        child.kill()
        child.join()
        mine.close()


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines for every answer that is another than before."""
    lines = []
    for name, found in new.items():
        for cell, answer in found.items():
            before = old.get(name, {}).get(cell, {"value": "not asked"})
            if before.get("value", "?") != answer.get("value", "?"):
                lines.append(
                    f"{name}.{cell}: {before.get('value')} -> {answer.get('value')} {answer.get('why', '')}"
                )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="types or variants; all of them without any")
    parser.add_argument("--cells", default="", help="capabilities, with commas")
    parser.add_argument("--again", action="store_true", help="ask again what has an answer")
    chosen = parser.parse_args()
    versions = {name: metadata.version(name) for name in PACKAGES}
    old = stored()
    stale = chosen.again or old["versions"] != versions
    wanted = [cell for cell in chosen.cells.split(",") if cell] or [*cells.CELLS, *EXTRAS]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    new: dict[str, Any] = {}
    for cell in wanted:
        known = stored()["found"]  # another run may have answered meanwhile
        names = [name for name in chosen.names or entries() if stale or cell not in known.get(name, {})]
        start = time.perf_counter()
        for name, answer in ask(context, names, cell):
            new.setdefault(name, {})[cell] = answer
            keep(versions, name, cell, answer)
            took, start = time.perf_counter() - start, time.perf_counter()
            line = f"{cell:16}{name:26}{answer.get('value', '')!s:7}{took:5.1f}s {answer.get('why', '')[:90]}"
            print(line, file=sys.stderr, flush=True)
    for line in differences(old["found"], new):
        print(line)


def stored(file: Path = rows.PROBES_FILE) -> dict[str, Any]:
    """The stored answers, without those about types that are no more."""
    kept: dict[str, Any] = (
        json.loads(file.read_text("utf-8")) if file.exists() else {"versions": {}, "found": {}}
    )
    kept["found"] = {name: answers for name, answers in kept["found"].items() if name in entries()}
    return kept


def keep(
    versions: dict[str, str], name: str, cell: str, answer: dict[str, Any], file: Path = rows.PROBES_FILE
) -> None:
    """Store one answer at once, beside what another run of this tool may have stored meanwhile."""
    with FileLock(Path(tempfile.gettempdir()) / "peft-lab-probed.lock"):
        found = stored(file)["found"]
        found.setdefault(name, {})[cell] = answer
        write(versions, found, file)


def write(versions: dict[str, str], found: dict[str, Any], file: Path = rows.PROBES_FILE) -> None:
    """Store the answers, types in the atlas's order, one answer a line."""
    rows = []
    for name in entries():
        if name in found:
            answers = ",\n".join(
                f"   {json.dumps(cell)}: {json.dumps(found[name][cell])}" for cell in found[name]
            )
            rows.append(f"  {json.dumps(name)}: {{\n{answers}\n  }}")
    head = f' "command": "python -m tools.probe_atlas",\n "versions": {json.dumps(versions)},\n "found": {{\n'
    file.write_text("{\n" + head + ",\n".join(rows) + "\n }\n}\n", "utf-8")


if __name__ == "__main__":
    main()
