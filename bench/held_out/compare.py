"""Compare published figures that nothing was fitted to with what ``peft_lab.peak`` answers for the same settings.

    python -m bench.held_out.compare open [--cache FILE [--cached]] [--only TEXT] [--keep]

``open`` or ``apart`` is the half (README.md there has the rule). A ratio is ours over the published figure, 1 inside
its low and high. What cannot be asked is counted by its reason. FILE holds answers by request; ``--keep`` writes the
half's figures to ``compared.jsonl`` and the tables of both halves to ``bench/results``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import peft_lab
from bench import fitting
from bench.held_out.requests import CONFIGS, SPEED, Request, Run, config_of, request_of, runs
from peft_lab.core.errors import PeftLabError
from peft_lab.engine.timing import estimate

#: Our figure for each published kind of memory. Nvidia-smi's has the driver's context beside it.
OURS = {
    "allocated": "peak", "active": "peak", "reserved": "reserved", "driver": "reserved", "unstated memory": "reserved",
}  # fmt: skip
#: How far memory may be off by the aim, on one card and on several. Seconds have a band of their own.
AIM, SHARDED = {"allocated": 0.02, "active": 0.02}, 0.08
#: What is kept: every figure of both halves; and the tables of bench/RESULTS.md.
KEPT = CONFIGS.with_name("compared.jsonl")
RESULTS = CONFIGS.parents[1] / "results"
HALVES = ("open", "apart")
#: The figures at the first asking of runs whose mapping or simulation was mended afterwards.
FIRST = CONFIGS.with_name("first.jsonl")
NOT_ASKED = "not asked yet"


@dataclass(frozen=True)
class Figure:
    """A published figure beside ours, or why there is none.

    Attributes:
        kind: as published; ``seconds`` for both kinds of speed. of: what is particular to the run (``compiled``).
        close: whether the published figure lies in the band that is printed for seconds; for memory, within the aim.
        reason: why it was not compared; empty if it was.
    """

    half: str
    run: str
    source: str
    kind: str
    of: tuple[str, ...] = ()
    published: float = 0.0
    ours: float = 0.0
    close: bool = False
    reason: str = ""

    @property
    def ratio(self) -> float:
        """Return ours over the published figure."""
        return self.ours / self.published


def ask(request: Request) -> dict[str, Any]:
    """Return the product's answer: peak, reserved and loaded bytes, and the step's seconds if a card is asked for."""
    with tempfile.TemporaryDirectory() as scratch:
        model = request.model
        if request.changes or (CONFIGS / f"{model}.json").is_file():
            folder = Path(scratch) / model
            folder.mkdir()
            config = {**config_of(model), **request.changes}
            (folder / "config.json").write_text(json.dumps(config), "utf-8")
            model = str(folder)
        row = peft_lab.peak(model, request.method, settings=request.settings, **request.options).rows[0]
    seconds = row.get("step_seconds")
    if request.lengths:
        assert isinstance(request.method, Mapping)
        works = fitting.trace(request.model, request.method, request.options["batch"])
        steps = [estimate.seconds(work, request.lengths).as_dict() for work in works]
        seconds = {
            name: sum(share * step[name] for share, step in zip(fitting.WEIGHTS, steps, strict=True))
            for name in ("low", "value", "high")
        }
    loaded = row["parts"]["weights"] + row["parts"]["adapter"]
    return {
        "peak": row["peak_bytes"],
        "reserved": row["reserved_bytes"],
        "loaded": loaded,
        "seconds": seconds,
    }


def answers(
    requests: Iterable[Request], cache: Path | None, cached: bool = False
) -> dict[str, dict[str, Any]]:
    """Return the answers by the requests' keys; those of the cache are not asked again, ``cached``: no others."""
    known: dict[str, dict[str, Any]] = {}
    if cache is not None and cache.is_file():
        known = {one["key"]: one for one in map(json.loads, cache.read_text("utf-8").splitlines())}
    for request in {one.key: one for one in requests}.values():
        if request.key in known:
            continue
        if cached:
            known[request.key] = {"error": NOT_ASKED}
            continue
        start = time.perf_counter()
        try:
            answer = ask(request)
        except PeftLabError as error:
            answer = {"error": str(error)}
        known[request.key] = answer
        print(f"{time.perf_counter() - start:6.1f} s  {request.key[:150]}", file=sys.stderr, flush=True)
        if cache is not None:
            with cache.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": request.key, **answer}) + "\n")
    return known


def compare(run: Run, request: Request | str, answer: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of a run beside ours, or why they are left out."""
    traits = {"compiled": run["compiled"], "unequal rows": run["rows"] == "unequal"}
    of = (
        "several cards" if run["devices"] > 1 else "one card",
        *(name for name, has in traits.items() if has),
    )
    found = []
    for figure in run["figures"]:
        kind, low, high = figure["kind"], figure["low"], figure["high"]
        place = (run["split"], run["name"], run["tool"], "seconds" if kind in SPEED else kind, of)
        error = answer["error"].partition(". ")[0] if "error" in answer else ""
        if reason := request if isinstance(request, str) else request.refused.get(kind, error):
            found.append(Figure(*place, reason=reason))
            continue
        if kind in SPEED:
            if kind == "tokens a second":
                low, high = (run["batch"] * run["seq"] / rate for rate in (high, low))
            assert isinstance(request, Request)
            passes = request.options.get("accumulate", 1)
            least, ours, most = (answer["seconds"][name] / passes for name in ("low", "value", "high"))
            close = least <= high and low <= most
            published = min(max(ours, low), high)
        else:
            # At several cards Qwen prints a sum over them.
            summed = "whether the memory is that of one GPU or of all" in run["unstated"]
            loaded = run["phase"] == "load"
            ours = answer["loaded" if loaded else OURS[kind]] * (run["devices"] if summed else 1)
            published = min(max(ours, low), high)
            close = abs(ours / published - 1) <= (SHARDED if run["devices"] > 1 else AIM.get(kind, 0.08))
        found.append(Figure(*place, published, ours, close))
    return found


def of_half(half: str, only: str = "", cache: Path | None = None, cached: bool = False) -> list[Figure]:
    """Return the figures of a half, of runs in whose name the pattern ``only`` is found."""
    chosen = [run for run in runs() if run["split"] == half and re.search(only, run["name"])]
    requests = [request_of(run) for run in chosen]
    known = answers((one for one in requests if isinstance(one, Request)), cache, cached)
    return [
        figure
        for run, request in zip(chosen, requests, strict=True)
        for figure in compare(run, request, {} if isinstance(request, str) else known[request.key])
    ]


def grouped(figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    """Return the compared figures by kind, by what is particular to the run, and by source."""
    groups: dict[str, list[Figure]] = {}
    for one in figures:
        for name in () if one.reason else ("", *one.of, one.source):
            groups.setdefault(f"{one.kind}, {name}".removesuffix(", "), []).append(one)
    return dict(sorted(groups.items()))


def summary(group: list[Figure]) -> list[Any]:
    """Return a group's size, its median deviation in percent, its median ratio, and the percentage that is close."""
    off = median(abs(one.ratio - 1) for one in group)
    close = sum(one.close for one in group) / len(group)
    return [len(group), 100 * off, median(one.ratio for one in group), 100 * close]


# ----------------------------------------
# What is kept, and its tables.


#: Which rows each constant was fitted to or chosen by; no run of ``published.jsonl`` is among them.
CONSTANTS = [
    ["the ten speeds of `timing/fitted.json`", 63, "PEFT's method comparison, steps on an L40S"],
    ["the band of seconds on an L40S", 63, "the same, each type held out"],
    ["the band on other cards or several", 20, "the steps of `timing/others.jsonl`"],
    ["the band on a card without a measured step", 20, "the same, by card"],
    ["a card's 16-bit products (`best`)", 0, "products that others measured alone; no training"],
    ["0.9 of them in a training, 0.7 of a link, 0.8 of the sending hidden", 0, "assumed"],
    ["longest batch of that comparison, 684 tokens", 1, "its plain LoRA row's reserved memory"],
    ["lengths of its batches", 0, "its mean and its cut, which it prints"],
    ["memory: all else", 0, "torch's allocator and kernels as their source has them"],
]


def kept(file: Path = KEPT) -> list[Figure]:
    """Return the kept figures of both halves."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return [Figure(**{**row, "of": tuple(row["of"])}) for row in map(json.loads, lines)]


def first() -> list[Figure]:
    """Return the figures of the first asking of runs that were asked again."""
    return kept(FIRST)


def keep(figures: list[Figure]) -> None:
    """Write figures instead of those kept of the same runs, and the tables of both halves.

    A run that was not asked keeps its figures. What a changed request replaces is left in ``first.jsonl``.
    """
    asked = {one.run for one in figures if one.reason != NOT_ASKED}
    old = [one for one in kept() if one.run in asked]
    new = [one for one in figures if one.run in asked]
    known = {one.run for one in first()}
    changed = {one.run for one, before in zip(new, old, strict=True) if one != before} - known
    with FIRST.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(one)) + "\n" for one in old if one.run in changed)
    by_run: dict[str, list[Figure]] = {}
    for one in new:
        by_run.setdefault(one.run, []).append(one)
    every: list[Figure] = []
    seen = Counter[str]()
    for one in kept():
        every.append(by_run[one.run][seen[one.run]] if one.run in by_run else one)
        seen[one.run] += 1
    KEPT.write_text("".join(json.dumps(asdict(one)) + "\n" for one in every), "utf-8")
    for name, table in tables(every).items():
        (RESULTS / f"{name}.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", "utf-8")


def tables(figures: list[Figure]) -> dict[str, dict[str, Any]]:
    """Return the tables of ``bench/results`` by name."""
    halves = {half: [one for one in figures if one.half == half] for half in HALVES}
    groups = {half: grouped(those) for half, those in halves.items()}
    kinds = [
        [name, *(cell for half in HALVES for cell in _cells(groups[half].get(name)))]
        for name in sorted({name for group in groups.values() for name in group})
    ]
    reasons = Counter(one.reason or "compared" for one in figures)
    counts = {half: Counter(one.reason or "compared" for one in those) for half, those in halves.items()}
    forms = {"figures": "{:,}", "median off": "{:.1f}%", "median ratio": "{:.2f}", "close": "{:.0f}%"}
    columns = [_column(f"{half}: {name}", form) for half in HALVES for name, form in forms.items()]
    return {
        "held_out": _table([_column("kind"), *columns], kinds),
        "held_out_refused": _table(
            [_column("figures"), *(_column(half, "{:,}") for half in HALVES)],
            [[name, *(counts[half][name] for half in HALVES)] for name, _ in reasons.most_common()],
        ),
        "held_out_again": _table(
            [
                _column("kind"),
                _column("half"),
                _column("figures asked again", "{:,}"),
                *(
                    _column(f"{name} {when}", form)
                    for when in ("first", "now")
                    for name, form in forms.items()
                ),
            ],
            _twice(halves),
        ),
        "held_out_constants": _table(
            [_column("constant"), _column("rows it saw", "{:,}"), _column("fitted to, or chosen by")],
            CONSTANTS,
        ),
    }


def _twice(halves: Mapping[str, list[Figure]]) -> list[list[Any]]:
    """Return rows of each kind and half with figures asked again: all its figures as first asked, and as they are."""
    found = []
    before: dict[str, list[Figure]] = {}
    for one in first():
        before.setdefault(one.run, []).append(one)
    for half, now in halves.items():
        again = {one.run for one in now} & before.keys()
        old = [*(one for one in now if one.run not in again), *(one for run in again for one in before[run])]
        groups, earlier = grouped(now), grouped(old)
        for name in sorted(groups.keys() & earlier.keys()):
            count = sum(one.run in again for one in groups[name])
            if count:
                found.append([name, half, count, *summary(earlier[name]), *summary(groups[name])])
    return found


def _cells(group: list[Figure] | None) -> list[Any]:
    return [""] * 4 if group is None else summary(group)


def _column(name: str, form: str = "") -> dict[str, Any]:
    return {"name": name, "align": "right", "forms": [form]} if form else {"name": name, "align": "left"}


def _table(columns: list[dict[str, Any]], rows: list[list[Any]]) -> dict[str, Any]:
    return {
        "section": "Held out: 376 published runs, 804 figures",
        "command": "python -m bench.held_out.compare open --keep, and apart",
        "machine": "simulated on 2 cores of an AMD EPYC; published on the GPUs that the runs name",
        "date": "2026-11-30",
        "commit": "a9353c9b",
        "columns": columns,
        "rows": rows,
    }


def main() -> None:
    """Print the ratio of every figure, the groups, and what was left out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("half", choices=HALVES)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--only", default="", help="runs in whose name this pattern is found")
    parser.add_argument("--cached", action="store_true", help="ask nothing that FILE lacks")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    figures = of_half(given.half, given.only, given.cache, given.cached)
    for one in sorted((one for one in figures if not one.reason), key=lambda one: abs(one.ratio - 1)):
        mark = "" if one.close else "  *"
        print(f"{one.ratio:7.3f}  {one.kind:16} {one.published:12.4g} {one.ours:12.4g}  {one.run}{mark}")
    for name, group in grouped(figures).items():
        size, off, ratio, close = summary(group)
        print(f"{name:56} {size:4} figures, {off:5.1f}% off, ratio {ratio:.3f}, {close:3.0f}% close")
    for reason, count in Counter(one.reason or "compared" for one in figures).most_common():
        print(f"{count:4}  {reason}")
    if given.keep:
        keep(figures)


if __name__ == "__main__":
    main()
