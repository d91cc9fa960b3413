"""Record what the shipped adapter answers in every way of using it, and in every exhibit, for the page *Ship it*.

    OMP_NUM_THREADS=2 python -m tools.record_ship [--again NAME ...]

Each way is written to the file when it has answered; given again, the tool records those that are missing, and those
that ``--again`` names. Engines answer in their own environments (``make engines``); without one its way is left out.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict
from pathlib import Path

from bench import engines as bench
from peft_lab.core import disk, machine
from peft_lab.runs.record import versions
from peft_lab.studies import same_rows
from peft_lab.studies.exhibits import MIXTURE, all_exhibits, answered, outcome
from peft_lab.studies.same_rows import WAYS, Answered, differences, reference, right, rows_of

FILE = Path(same_rows.__file__).with_suffix(".json")


def record(again: list[str]) -> None:
    """Add what is missing to the file."""
    spec, folder = same_rows.adapter_of(same_rows.SHIPPED)
    known = disk.read_json(FILE, {})
    answers = {name: Answered(**one) for name, one in known.get("answers", {}).items() if name not in again}
    about = {name: known[name] for name in ("machine", "versions", "recorded", "engines") if name in known}
    for name in (*WAYS, MIXTURE, *all_exhibits()):
        engine = WAYS[name].engine if name in WAYS else ""
        if name in answers or (engine and not bench.python_of(engine).exists()):
            continue
        now = {
            "load": round(os.getloadavg()[0]),
            "recorded": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        }
        if engine:
            answers.update(bench.same_rows(same_rows.SHIPPED, {engine: bench.python_of(engine)}))
            package = " and ".join(bench.PACKAGES[engine]).replace("==", " ")
            about.setdefault("engines", {})[engine] = {"package": package, **now}
        else:
            answers[name] = answered(name, spec, folder)
            here = {"processor": machine.processor(), "cores": machine.cores(), "load": now["load"]}
            about |= {"machine": here, "versions": versions(), "recorded": now["recorded"]}
        print(name, told(name, answers), flush=True)
        write(spec.to_dict(), about, answers)


def told(name: str, answers: dict[str, Answered]) -> str:
    """Return what came of it, in a line."""
    spec, _ = same_rows.adapter_of(same_rows.SHIPPED)
    if name in WAYS:
        apart = differences(spec.model, answers[name], answers[reference(name)])
        return f"{right(rows_of(spec), answers[name])} right, {len(apart)} differ, {apart[:1]}"
    if name == MIXTURE:
        return ""
    one = all_exhibits()[name]
    rows, pair = one.rows(spec), (answers[one.healthy], answers[name])
    return f"{outcome(rows, *pair)}, right {[right(rows, seen) for seen in pair]}"


def write(spec: dict[str, object], about: dict[str, object], answers: dict[str, Answered]) -> None:
    """Write the file, with what the answers depend on."""
    disk.write_json(
        FILE,
        {
            "spec": spec,
            **about,
            "apart": {
                way: differences(str(spec["model"]), answers[way], answers[reference(way)])
                for way in WAYS
                if way in answers
            },
            "answers": {name: asdict(one) for name, one in answers.items()},
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--again", nargs="*", default=[], metavar="NAME")
    record(parser.parse_args().again)
