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
from typing import Any

from peft_lab.advise.recipes.replications import replications
from peft_lab.studies import shipped_sweep
from peft_lab.studies.blending import SHIPPED
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


#: Tables of data that ship with the package.
COMPUTED: dict[str, Callable[[], str]] = {
    "best_rates": lambda: rate_table(shipped_sweep.shipped_points()),
    "rules": rules,
    "sums": lambda: stored("sums", SHIPPED),
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
