"""How well the diagnosis does on runs that it was not tuned on.

    python -m bench.clinic make FOLDER --seed 2 --mutants 120 --healthy 100 [--share 0/2] [--live]
    python -m bench.clinic measure FOLDER... [--write]

``make`` trains for real: mutants with one fault each, drawn with its settings by chance, and healthy runs of several
methods, rates, lengths and log formats. With ``--live`` they are the whole MiniLM-L6 and SmolLM2-135M that the app
trains, instead of a Llama of two layers and MiniLM's first two. ``measure`` gives each folder to the diagnosis as a
person would. The checks were written beside the runs of seed 1; those of seed 2 were measured once, at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft_lab.interview.clinic import diagnose, reading
from peft_lab.interview.clinic.diagnose import SUSPECTED, TENTHS, Diagnosis, tenth
from peft_lab.interview.clinic.diagnose import diagnose as diagnose_diagnose
from peft_lab.takeaway.ship.adapter import CONFIG, STATE, WANTED, WEIGHTS, of_folder
from tools.clinic_made.faults import NEEDS, SPOILS
from tools.clinic_made.runs import Ran, run, write_log
from tools.clinic_made.setup import ENCODER, TARGETS, TINY, WRITER, Setup

FORMATS = ("state", "jsonl", "csv", "console")
#: Rates that a healthy run draws from, by method: within a factor of three of what learns on these models.
RATES = {
    "lora": (1e-3, 8e-3), "adalora": (2e-3, 1e-2), "ia3": (5e-3, 5e-2), "prompt": (5e-3, 5e-2),
    "prefix": (5e-3, 3e-2), "full": (1e-4, 1e-3),
}  # fmt: skip
WRITERS = ("lora", "lora", "adalora", "ia3", "prefix", "prompt", "full")
METHODS = {ENCODER: ("lora", "lora", "adalora", "ia3", "full"), TINY: WRITERS, WRITER: WRITERS}
SMALL = {ENCODER: 0.3, TINY: 0.7}  # how often each is drawn
#: SmolLM2 takes ten times as long as MiniLM; the faults that only a writer has come on top of its share.
LIVE = {ENCODER: 0.8, WRITER: 0.2}
TRAINABLE_BY_RATE = ("lora", "ia3", "full")  # methods that the two faults of the rate are injected into


def drawn(chance: random.Random, live: bool) -> str:
    models = LIVE if live else SMALL
    writer = WRITER if live else TINY
    return ENCODER if chance.random() < models[ENCODER] else writer


def healthy_setup(chance: random.Random, model: str = "", method: str = "", live: bool = False) -> Setup:
    """A run as anyone would make it."""
    model = model or drawn(chance, live)
    method = method or chance.choice(METHODS[model])
    low, high = RATES[method]
    # A pretrained model under full fine-tuning wants lower rates than a small one.
    scale = 0.3 if method == "full" and model != TINY else 1.0
    heavy = model == WRITER
    return Setup(
        model=model,
        method=method,
        task=chance.choice(("sentiment", "products")) if model == ENCODER else "json",
        rate=float(f"{scale * low * (high / low) ** chance.random():.3g}"),
        steps=chance.randrange(12, 17) if heavy else chance.randrange(16, 31),
        batch=chance.choice((1, 2)) if heavy else chance.choice((4, 8)),
        seed=chance.randrange(10_000),
        rank=chance.choice((2, 4, 8, 16)),
        targets=tuple(chance.sample(TARGETS[model], chance.randrange(1, 4))),
        layers=2 if model == ENCODER and not live else 0,
        schedule=chance.choice(("linear", "cosine", "constant")),
        warmup=chance.choice((0, 0, 2)),
        dropout=chance.choice((0.0, 0.05)),
        told=chance.choice(
            ({}, {}, {"bf16": False}, {"completion_only_loss": True} if model != ENCODER else {})
        ),
    )


def make(seed: int, number: int, mutant: bool, folder: Path, live: bool = False) -> None:
    """One run; what it was is kept beside it, where the diagnosis does not look."""
    chance = random.Random(f"{seed}/{number}/{mutant}")
    fault, log = "", chance.choice(FORMATS)
    if mutant:
        fault = sorted(SPOILS)[number % len(SPOILS)]
        rate = fault.startswith("rate-too")
        method = chance.choice(TRAINABLE_BY_RATE) if rate else "lora"
        model = NEEDS.get(fault) or drawn(chance, live)
        if live and model == TINY:
            model = WRITER
        setup = replace(healthy_setup(chance, model, method, live), told={})
        if model == WRITER and fault == "accumulation-not-averaged":
            setup = replace(setup, steps=6)  # of four or eight passes each
        ran = SPOILS[fault](setup, chance, folder)
    else:
        ran = run(healthy_setup(chance, live=live), folder)
        if ran.failed:
            raise SystemExit(f"a healthy run failed: {ran.setup} {ran.console}")
    keep(ran, "console" if ran.failed else log)
    about = {"fault": fault, "model": ran.setup.model, "method": ran.setup.method, "rate": ran.setup.rate}
    folder.with_suffix(".json").write_text(json.dumps(about), "utf-8")


def keep(ran: Ran, log: str) -> None:
    """Only what the diagnosis is given."""
    file = write_log(ran, log)
    wanted = {file.name, "arguments.json", *WANTED} - ({STATE} - {file.name})
    for each in ran.folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name not in wanted:
            each.unlink()


def given(folder: Path) -> Diagnosis:
    """What the command line would say."""
    material = reading.Material()
    names = {file.name for file in folder.iterdir()}
    for name in (CONFIG, "arguments.json"):
        if name in names:
            material = reading.with_config(material, name, (folder / name).read_bytes())
    for name in ("trainer_state.json", "log.jsonl", "log.csv", "console.log"):
        if name in names and (folder / name).stat().st_size:
            material = reading.with_log(material, name, (folder / name).read_bytes())
    if WEIGHTS in names:
        material = reading.with_adapter(material, of_folder(folder))
    return diagnose_diagnose(material)


def measure(*folders: Path, model: str = "") -> dict[str, Any]:
    """Shares over all runs of some folders (on one model), and which faults were missed."""
    hits: Counter[str] = Counter()
    missed, alarms, bins = [], [], Counter[tuple[int, bool]]()
    for about in sorted(file for folder in folders for file in folder.glob("*.json")):
        truth = json.loads(about.read_text("utf-8"))
        if model and truth["model"] != model:
            continue
        found = given(about.with_suffix(""))
        ranked = [each.fault.name for each in found.suspicions]
        for each in found.suspicions:
            bins[tenth(each.probability), each.fault.name == truth["fault"]] += 1
        if not truth["fault"]:
            hits["healthy"] += 1
            if found.found:
                alarms.append((about.stem, truth["method"], ranked[0], found.found[0].evidence[0]))
            continue
        hits["mutants"] += 1
        hits["first"] += ranked[:1] == [truth["fault"]]
        hits["three"] += truth["fault"] in ranked[:3]
        hits["named"] += bool(found.found) and ranked[:1] == [truth["fault"]]
        if ranked[:1] != [truth["fault"]]:
            missed.append((about.stem, truth["fault"], truth["method"], ranked[:3]))
    tenths = {
        at: [bins[at, True], bins[at, True] + bins[at, False]]
        for at in range(TENTHS)
        if bins[at, True] + bins[at, False]
    }
    return {**hits, "alarms": alarms, "missed": missed, "tenths": tenths}


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share, at 95%."""
    z, share = 1.96, right / of
    middle, half = share + z * z / (2 * of), z * (share * (1 - share) / of + z * z / (4 * of * of)) ** 0.5
    return max(0.0, (middle - half) / (1 + z * z / of)), min(1.0, (middle + half) / (1 + z * z / of))


def told(name: str, right: int, of: int) -> None:
    if of:
        low, high = interval(right, of)
        print(f"{name}: {right}/{of} = {right / of:.3f} (95%: {low:.3f} to {high:.3f})")


def _measured(folders: list[Path], write: bool) -> None:
    for model in ("", TINY, ENCODER, WRITER):
        found = measure(*folders, model=model)
        print(f"# {model or 'all'}")
        if not model:
            print(json.dumps(found, indent=1))
            if write:
                kept = {name: found.get(name, 0) for name in ("mutants", "healthy")} | {
                    "tenths": found["tenths"]
                }
                diagnose.RELIABILITY_FILE.write_text(json.dumps(kept) + "\n", "utf-8")
        for name, words in (
            ("first", "first"),
            ("three", "among the first three"),
            ("named", f"first at {SUSPECTED}"),
        ):
            told(words, found.get(name, 0), found.get("mutants", 0))
        told("false alarms", len(found["alarms"]), found.get("healthy", 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("make", "measure"))
    parser.add_argument("folder", type=Path, nargs="+", help="several are measured together")
    parser.add_argument("--write", action="store_true", help="keep the counts by weight for the clinic")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutants", type=int, default=120)
    parser.add_argument("--healthy", type=int, default=100)
    parser.add_argument("--share", default="0/1", help="0/2 and 1/2 share the work between two processes")
    parser.add_argument("--live", action="store_true", help="on the whole models that the app trains")
    asked = parser.parse_args()
    if asked.what == "measure":
        _measured(asked.folder, asked.write)
        return
    (folder,) = asked.folder
    share, of = map(int, asked.share.split("/"))
    work = [(number, True) for number in range(asked.mutants)] + [
        (number, False) for number in range(asked.healthy)
    ]
    random.Random(0).shuffle(work)  # a making that is cut short is a fair sample
    for at, (number, mutant) in enumerate(work):
        place = folder / f"{'mutant' if mutant else 'healthy'}-{number:03d}"
        if at % of == share and not place.with_suffix(".json").exists():
            shutil.rmtree(place, ignore_errors=True)
            make(asked.seed, number, mutant, place, asked.live)
            print(at, place.name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
