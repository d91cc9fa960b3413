"""The rows of a comparison as a table with the source under each heading, and as CSV.

On a phone a row becomes a card: each figure under a heading of its own, hidden where there is room for columns.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_lab import units
from peft_lab.compare import results
from peft_lab.units import Source

Row = Mapping[str, Any]
ABSENT = "–"
#: Fields of a row that hold no single figure or repeat others.
_NOT_IN_CSV = ("loss", "values", "runs", "metric_values", "title")


@dataclass(frozen=True)
class Column:
    """``shown`` writes a row's figure, what is after a line break small under it; rows without it have a dash."""

    title: str
    source: Source | None
    shown: Callable[[Row], str]
    needs: str


def columns(found: Mapping[str, Any]) -> list[Column]:
    """The columns for one document; forgetting only where the model can show it."""
    measured = Source.MEASURED
    made = [
        Column("Trained", Source.COUNTED, _trained, "trainable"),
        Column(found["metric"]["title"], measured, _metric, "metric_mean"),
        Column("Training", measured, _training, "seconds"),
        Column("Peak of a step", measured, lambda row: units.size(row["peak_bytes"]), "peak_bytes"),
        Column("Stored", measured, lambda row: units.size(row["stored_bytes"]), "stored_bytes"),
        Column(f"Added per {found['inference_unit']}", measured, _added, "added_seconds"),
        Column("Merges", None, results.merging, "mergeable"),
    ]
    if any(row["forgetting_change"] is not None for row in found["rows"]):
        made.append(Column("Unrelated loss", measured, _forgetting, "forgetting_change"))
    return made


def _trained(row: Row) -> str:
    share = "" if row["percent"] is None else f"\n{units.percent(row['percent'])}"
    return f"{units.short_count(row['trainable'])}{share}"


def _metric(row: Row) -> str:
    spread = "" if row["metric_std"] is None else f" ± {100 * row['metric_std']:.1f}"
    return f"{100 * row['metric_mean']:.1f}{spread}%"


def _training(row: Row) -> str:
    mean, spread = row["seconds"], row["seconds_std"]
    return units.seconds(mean) if spread is None else units.spread_seconds(mean, spread)


def _added(row: Row) -> str:
    share, spread = row["added_seconds"] / row["base_inference_seconds"], row["added_seconds_std"]
    within = "" if spread is None else f" ± {1000 * spread:.1f}"
    return f"{1000 * row['added_seconds']:+z.1f}{within} ms\n{share:+z.0%}"


def _forgetting(row: Row) -> str:
    return f"{row['forgetting_before']:.2f} → {row['forgetting_after']:.2f}"


def html_table(found: Mapping[str, Any]) -> str:
    """A table for ``st.html``: a row without figures says why over its whole width; notes stand under the title."""
    shown = columns(found)
    head = "".join(_heading(column) for column in shown)
    front = set(found["pareto"])
    body = "".join(_line(row, shown, row["method"] in front) for row in found["rows"])
    return (
        '<div class="figures-scroll" tabindex="0"><table class="figures compare"><thead><tr>'
        f'<th scope="col">Method</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _heading(column: Column) -> str:
    return f'<th scope="col" class="n">{_titled(column)}</th>'


def _titled(column: Column) -> str:
    source = f'<br><span class="source {column.source}">{column.source}</span>' if column.source else ""
    return f"{html.escape(column.title)}{source}"


def _line(row: Row, shown: Sequence[Column], front: bool) -> str:
    title = html.escape(row["title"])
    if row["metric_mean"] is None and row["trainable"] is None:
        why = html.escape(f"{row['status'].capitalize()}{': ' if row['why'] else '.'}{row['why']}")
        return f'<tr><th scope="row">{title}</th><td colspan="{len(shown)}" class="why"><div>{why}</div></td></tr>'
    note = "" if row["status"] == "done" else f"{row['status']}{': ' if row['why'] else ''}{row['why']}"
    under = f'<br><span class="note">{html.escape(note)}</span>' if note else ""
    cells = "".join(_cell(row, column) for column in shown)
    mark = ' class="front"' if front else ""
    return f'<tr{mark}><th scope="row">{title}{under}</th>{cells}</tr>'


def _cell(row: Row, column: Column) -> str:
    figure = _stacked(column.shown(row)) if row.get(column.needs) is not None else ABSENT
    return f'<td class="n"><span class="head">{_titled(column)}</span>{figure}</td>'


def _stacked(text: str) -> str:
    first, _, second = html.escape(text).partition("\n")
    return f'{first}<br><span class="note">{second}</span>' if second else first


def as_csv(found: Mapping[str, Any]) -> str:
    """One line for each method with its figures in plain units, and a column for each seed's metric."""
    plan = found["plan"]
    names = [name for name in found["rows"][0] if name not in _NOT_IN_CSV]
    seeds = [f"{found['metric']['name']}_seed_{seed}" for seed in plan["seeds"]]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "task", "steps", "batch", "held_out_rows", *names, *seeds])
    for row in found["rows"]:
        scored = dict(zip(row["seeds"], row["metric_values"], strict=False))
        setting = [plan["model"], plan["task"], plan["steps"], plan["batch"], found["metric"]["rows"]]
        figures = [
            " ".join(map(str, row[name])) if isinstance(row[name], list) else row[name] for name in names
        ]
        writer.writerow([*setting, *figures, *(scored.get(seed) for seed in plan["seeds"])])
    return file.getvalue()
