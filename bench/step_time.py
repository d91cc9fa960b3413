"""Published step times beside predicted ones, each type of adapter held out: ``python -m bench.step_time [--json]``.

A row is predicted with constants that were fitted to the rows of all other types. What the steps do was traced once
and lies in ``step_work.json.gz``; ``--trace`` traces all rows anew (some minutes). ``--write`` fits all rows and writes
what the lab uses.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from scipy import stats

from bench import fitting
from bench.fitting import Measured, fit_constants, flat, read
from peft_lab.engine import published
from peft_lab.engine.timing import estimate
from peft_lab.engine.timing.kernels import CONSTANTS, OperationTable, Speed

WORK = Path(__file__).with_name("step_work.json.gz")
PACKAGES = ("torch", "transformers", "peft")
#: Of the errors, what the band is to hold.
_HELD = 0.9


def kind_of(row: published.PublishedRow) -> str:
    """PEFT's name of the type; full fine-tuning has none."""
    return "FULL" if row.config is None else str(row.config["peft_type"])


def trace_all() -> None:
    """Trace every row and write the file."""
    rows = {}
    for experiment in published.rows():
        rows[experiment] = [flat(work) for work in fitting.traced_protocol(experiment)]
        print(experiment, file=sys.stderr, flush=True)
    content = {"packages": {name: metadata.version(name) for name in PACKAGES}, "rows": rows}
    WORK.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


@cache
def measured() -> Mapping[str, Measured]:
    """Every published row, ready to be fitted."""
    kept = json.loads(gzip.decompress(WORK.read_bytes()))["rows"]
    return {
        experiment: Measured(
            tuple(OperationTable(read(work)) for work in kept[experiment]), fitting.WEIGHTS, row.step_seconds
        )
        for experiment, row in published.rows().items()
    }


def without(kind: str) -> Speed:
    """Constants from the rows of all types but one."""
    rows = [measured()[name] for name, row in published.rows().items() if kind_of(row) != kind]
    return fit_constants(rows, fitting.EXPECTED, fitting.DOUBT, fitting.MOST)


def held_out() -> Iterator[dict[str, Any]]:
    """Each row as its own type's constants predict it, which no row of that type helped to find."""
    kinds = {name: kind_of(row) for name, row in published.rows().items()}
    for kind in sorted(set(kinds.values())):
        speed = without(kind)
        for name in (name for name, own in kinds.items() if own == kind):
            one = measured()[name]
            yield {
                "experiment": name,
                "peft_type": kind,
                "measured_seconds": one.seconds,
                "predicted_seconds": one.predicted(speed),
            }


def error(row: Mapping[str, Any]) -> float:
    """In percent, positive where the prediction is longer."""
    return 100 * (row["predicted_seconds"] / row["measured_seconds"] - 1)


def ranks(values: list[float]) -> list[float]:
    """Places in order, equal values sharing theirs."""
    return [
        sum(other < value for other in values) + sum(other == value for other in values) / 2
        for value in values
    ]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, nine tenths and the largest of the errors in percent; correlation of the ranks (Spearman's)."""
    sizes = sorted(abs(error(row)) for row in rows)
    places = (ranks([row[f"{which}_seconds"] for row in rows]) for which in ("measured", "predicted"))
    return {
        "rows": len(rows),
        "median_percent": statistics.median(sizes),
        "p90_percent": statistics.quantiles(sizes, n=10, method="inclusive")[-1],
        "largest_percent": sizes[-1],
        "rank_correlation": statistics.correlation(*places),
    }


def band(errors: list[float]) -> list[float]:
    """Factors around a prediction within which nine of ten measured values were. ``errors`` in percent."""
    ratios = sorted(1 / (1 + one / 100) for one in errors)
    parts = statistics.quantiles(ratios, n=20, method="inclusive")
    return [round(min(parts[0], 1.0), 3), round(max(parts[-1], 1.0), 3)]


def unseen_band(found: Iterable[Mapping[str, Any]]) -> list[float]:
    """Factors for a card without any measured step, from the figures of :func:`bench.transfer.predicted` on others.

    A card has a ratio of its own, beside which its figures spread. The interval predicts one figure of one more card,
    on a log scale: from the cards' means, their spread and that within cards, by Student's t, as the cards are few.
    """
    cards: dict[str, list[float]] = {}
    for row in found:
        cards.setdefault(row["gpu"], []).append(math.log(row["measured_seconds"] / row["predicted_seconds"]))
    means = [statistics.mean(each) for each in cards.values()]
    number, figures = len(cards), sum(map(len, cards.values()))
    within = sum(statistics.pvariance(each) * len(each) for each in cards.values()) / (figures - number)
    spread = math.sqrt(statistics.variance(means) * (1 + 1 / number) + within)
    half = float(stats.t.ppf((1 + _HELD) / 2, number - 1)) * spread
    center = statistics.mean(means)
    return [round(math.exp(center - half), 3), round(math.exp(center + half), 3)]


def write(rows: list[dict[str, Any]]) -> None:
    """Fit all rows and write what the lab uses, with the band of the held-out errors."""
    from bench import transfer

    speed = fit_constants(list(measured().values()), fitting.EXPECTED, fitting.DOUBT, fitting.MOST)
    carried = list(transfer.predicted(speed))
    bands = {
        "fitted": band([error(row) for row in rows]),
        "carried": band([error(row) for row in carried]),
        "unseen": unseen_band(carried),
    }
    content = {
        "command": "python -m bench.step_time --write",
        "constants": {name: float(f"{value:.4g}") for name, value in asdict(speed).items()},
        "bands": bands,
        "held_out": {name: round(value, 4) for name, value in summary(rows).items()},
    }
    (Path(estimate.__file__).with_name(estimate.FITTED_FILE)).write_text(
        json.dumps(content, indent=1) + "\n", "utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="print the rows as one JSON document and nothing else"
    )
    parser.add_argument("--trace", action="store_true", help="trace all rows anew")
    parser.add_argument("--write", action="store_true", help="write the constants that the lab uses")
    options = parser.parse_args()
    if options.trace:
        trace_all()
    rows = list(held_out())
    if options.write:
        write(rows)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in sorted(rows, key=lambda row: -abs(error(row))):
        times = (f"{1e3 * row[f'{which}_seconds']:>9.1f}" for which in ("measured", "predicted"))
        print(f"{row['experiment']:<50}{''.join(times)} ms{error(row):>+8.1f}%")
    print(json.dumps(summary(rows)))
    found, most = estimate.constants(), fitting.MOST
    for name in CONSTANTS:
        share = f" ({100 * getattr(found, name) / most[name]:.0f}% of the sheet's)" if name in most else ""
        print(f"{getattr(found, name):>12.4g}  {estimate.MEANINGS[name]}{share}")


if __name__ == "__main__":
    main()
