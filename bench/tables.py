"""Write the tables of bench/RESULTS.md from data: ``python -m bench.tables`` (``--check`` compares only).

In the text a table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. Its rows are in
``bench/results/NAME.json``, with where and when they were measured; those of data that ship are computed from them.

A file has ``section``, ``command`` (empty where the text tells what was done), ``machine``, ``date`` (measured, or
noted down), ``commit`` (that noted it down), ``columns`` and ``rows``. A column has ``name``, ``align``, ``unit`` and
``forms``: Python's format strings, of which a cell takes the first that has as many places as the cell has numbers. A
cell is a number, a list of numbers, a text, or ``{"form": …, "values": […]}`` where it is written otherwise.
"""

from __future__ import annotations

import argparse
import json
import re
import string
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench import engines
from peft_lab.advise.recipes.replications import replications
from peft_lab.studies import blending, exhibits, same_rows, shipped_sweep
from tools.ship_sweep import rate_table

FOLDER = Path(__file__).with_name("results")
RESULTS = Path(__file__).with_name("RESULTS.md")
TABLE = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
RULES = {"left": "---", "right": "---:"}


class Numbers(string.Formatter):
    """Formats numbers with a true minus sign and exponents without padding."""

    def format_field(self, value: Any, format_spec: str) -> str:
        text = format(value, format_spec)
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", text.replace("-", "−", 1) if text.startswith("-") else text)


def places(form: str) -> int:
    """Return how many numbers a form takes."""
    return sum(name is not None for _, name, _, _ in string.Formatter().parse(form))


def written(cell: Any, column: Mapping[str, Any]) -> str:
    """Return a cell as the table shows it.

    Raises:
        ValueError: no form of the column takes as many numbers.
    """
    if isinstance(cell, str):
        return cell
    form, values = None, cell
    if isinstance(cell, dict):
        form, values = cell["form"], cell["values"]
    values = values if isinstance(values, list) else [values]
    for known in [form] if form else column["forms"]:
        if places(known) == len(values):
            return Numbers().vformat(known, values, {})
    raise ValueError(f"{column['name']!r} has no form for {cell!r}")


def markdown(heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of columns' names and alignments, and of rows of text."""
    lines = [f"| {' | '.join(name for name, _ in heads)} |", f"|{'|'.join(RULES[to] for _, to in heads)}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(re.sub(r"\|  (?=\|)", "| ", line) for line in lines)


def stored(name: str, folder: Path = FOLDER) -> str:
    """Return the table of a file in ``bench/results``, or in another folder."""
    table = json.loads((folder / f"{name}.json").read_text("utf-8"))
    columns = table["columns"]
    rows = [
        [written(cell, column) for cell, column in zip(row, columns, strict=True)] for row in table["rows"]
    ]
    return markdown([(column["name"], column["align"]) for column in columns], rows)


def rules() -> str:
    """Return what the shipped sweep says of the rules of the recipes."""
    rows = [
        (
            name,
            one.what,
            one.limits,
            one.measured,
            str(one.groups),
            str(one.verdict).partition(":")[0],
        )
        for name, one in replications().items()
        if one.value is not None
    ]
    heads = [(name, "left") for name in ("rule", "figure")]
    heads += [(name, "right") for name in ("expected", "here", "groups")]
    return markdown([*heads, ("verdict", "left")], rows)


def shipping_ways() -> str:
    """Return what was recorded of the same rows in several ways."""
    found = same_rows.recorded()
    rows = []
    for name, way in same_rows.WAYS.items():
        if (seen := found["answers"].get(name)) is not None:
            right = str(same_rows.right(same_rows.rows_of(found["spec"]), seen))
            equal = str(same_rows.ROWS - len(found["apart"][name]))
            lost = f"{100 * fmean(seen.lost):.1f}" if seen.lost else "–"
            engine = found["engines"].get(name, {"package": "–"})["package"]
            rows.append((way.title, engine, right, equal, lost, f"{seen.seconds:.0f}"))
    heads = [("way", "left"), ("package", "left")]
    heads += [
        (name, "right")
        for name in ("right of 24", "as beside the base", "ΔW below half a step, %", "seconds")
    ]
    return markdown(heads, rows)


def recorded_exhibits() -> str:
    """Return how many answers each exhibit has right, without its change and with it."""
    found, rows = same_rows.recorded(), []
    for name, one in exhibits.all_exhibits().items():
        asked, pair = one.rows(found["spec"]), [found["answers"][key] for key in (one.healthy, name)]
        before, after = (str(same_rows.right(asked, seen)) for seen in pair)
        endless = ", and it does not stop" if exhibits.outcome(asked, *pair) == "endless" else ""
        rows.append((one.title, f"{before} of {len(asked)}", after + endless))
    return markdown([("exhibit", "left"), ("right before", "right"), ("right after", "right")], rows)


def shipping_engines() -> str:
    """Return by engine how many adapters ran, were refused or answered wrongly, and how often the passport knew."""
    found, rows = engines.recorded(), []
    for engine, package in {row["engine"]: row["package"] for row in found}.items():
        mine = [row for row in found if row["engine"] == engine]
        unwritten = sum(row.get("error", "").startswith("not written") for row in mine)
        did = [sum(row["did"] == what for row in mine) for what in ("runs", "refused", "wrong")]
        numbers = [len(mine), did[0], unwritten, did[1] - unwritten, did[2]]
        off = max((row["difference"] for row in mine if row["did"] == "runs"), default=0.0)
        right = f"{sum(map(engines.agrees, mine))} of {len(mine)}"
        off_text = Numbers().format("{:.1e}", off)
        rows.append((f"{engine} ({package.replace('==', ' ')})", *map(str, numbers), off_text, right))
    heads = ["adapters", "ran", "our writer refused", "it refused", "wrong answers"]
    heads += ["largest difference of a log-probability", "passport right"]
    return markdown([("engine", "left"), *((name, "right") for name in heads)], rows)


def shipped_blends() -> str:
    """Return what the shipped adapters score alone, and in the best recorded blend of each way and group."""
    about, _ = blending.recorded()
    rows = [("alone", "1 each", *(f"{one:.2f}" for one in about["alone"]))]
    for cells in blending.best().values():
        for cell in cells:
            weights = ", ".join(f"{weight:g}" for weight in cell["weights"])
            scores = (f"{one:.2f}" for one in cell["scores"])
            rows.append((f"{cell['how']}, rank {cell['rank']}", weights, *scores))
    return markdown(
        [("blend", "left"), ("weights", "left"), *((name, "right") for name in blending.TASKS)], rows
    )


#: Tables of data that ship with the package.
COMPUTED: dict[str, Callable[[], str]] = {
    "exhibits": recorded_exhibits,
    "shipped_blends": shipped_blends,
    "shipping_engines": shipping_engines,
    "shipping_ways": shipping_ways,
    "best_rates": lambda: rate_table(shipped_sweep.shipped_points()),
    "rules": rules,
    "sums": lambda: stored("sums", blending.SHIPPED),
}


def filled(text: str) -> str:
    """Return the text with every table made anew.

    Raises:
        ValueError: a file in ``bench/results`` of which the text has no table.
    """
    names = TABLE.findall(text)
    if spare := {file.stem for file in FOLDER.glob("*.json")} - set(names):
        raise ValueError(f"no table of {', '.join(sorted(spare))} in {RESULTS.name}")

    def table(place: re.Match[str]) -> str:
        name = place[1]
        return f"<!-- table: {name} -->\n{COMPUTED.get(name, lambda: stored(name))()}\n<!-- end -->"

    return TABLE.sub(table, text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if the tables differ"
    )
    options = parser.parse_args(arguments)
    before = RESULTS.read_text("utf-8")
    after = filled(before)
    if not options.check:
        RESULTS.write_text(after, "utf-8")
    return int(options.check and before != after)


if __name__ == "__main__":
    sys.exit(main())
