"""Record what the shipped adapter answers in every way of using it, and in every exhibit, for the page *Ship it*.

    OMP_NUM_THREADS=2 python -m tools.record_ship [--again NAME ...]

Each way is written to the file when it has answered; given again, the tool records those that are missing, and those
that ``--again`` names.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict
from pathlib import Path

from peft_lab.core import disk, machine
from peft_lab.runs.record import versions
from peft_lab.studies import same_rows
from peft_lab.studies.exhibits import MIXTURE, all_exhibits, answered, outcome
from peft_lab.studies.same_rows import UNMERGED, WAYS, Answered, differences, right, rows_of

FILE = Path(same_rows.__file__).with_suffix(".json")


def record(again: list[str]) -> None:
    """Add what is missing to the file."""
    spec, folder = same_rows.adapter_of(same_rows.SHIPPED)
    known = disk.read_json(FILE, {}).get("answers", {})
    answers = {name: Answered(**one) for name, one in known.items() if name not in again}
    for name in (*WAYS, MIXTURE, *all_exhibits()):
        if name not in answers:
            answers[name] = answered(name, spec, folder)
            print(name, told(name, answers), flush=True)
            write(spec.to_dict(), answers)


def told(name: str, answers: dict[str, Answered]) -> str:
    """Return what came of it, in a line."""
    spec, _ = same_rows.adapter_of(same_rows.SHIPPED)
    if name in WAYS:
        apart = differences(spec.model, answers[name], answers[UNMERGED])
        return f"{right(rows_of(spec), answers[name])} right, {len(apart)} differ, {apart[:1]}"
    if name == MIXTURE:
        return ""
    one = all_exhibits()[name]
    rows, pair = one.rows(spec), (answers[one.healthy], answers[name])
    return f"{outcome(rows, *pair)}, right {[right(rows, seen) for seen in pair]}"


def write(spec: dict[str, object], answers: dict[str, Answered]) -> None:
    """Write the file, with what the answers depend on."""
    disk.write_json(
        FILE,
        {
            "spec": spec,
            "machine": {
                "processor": machine.processor(),
                "cores": machine.cores(),
                "load": round(os.getloadavg()[0]),
            },
            "versions": versions(),
            "recorded": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
            "apart": {
                way: differences(str(spec["model"]), answers[way], answers[UNMERGED])
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
