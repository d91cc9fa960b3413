"""Parameters by module as areas. What is trained can always be seen, and the caption says when it is enlarged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from peft_lab import palette, units
from peft_lab.counting.count import GroupCount
from peft_lab.ui import theme

VISIBLE = 0.05  # of the picture, that all trained areas together take at least
LEAST = 0.004  # of the picture, that one of them takes at least
_LAYERS = re.compile(r"^(.*?)\.?\{\}\.?(.*)$")


@dataclass
class Area:
    """One rectangle: a module's parameters of one state.

    Attributes:
        place: the part of the model that contains it, such as ``self_attn``.
        modules: how many modules it stands for.
        drawn: its size in the picture, in parameters; more than ``parameters`` for a trained one that would not show.
    """

    place: str
    label: str
    state: str
    parameters: int
    modules: int
    drawn: float

    @property
    def enlarged(self) -> bool:
        return self.drawn > self.parameters


def areas(tree: Sequence[GroupCount]) -> list[Area]:
    """One area for each module and state, the method's own parameters joined to the module that they belong to."""
    bare = {group.module for group in tree if not group.added}
    found: dict[tuple[str, str, str], Area] = {}
    for group in tree:
        owner = _owner(group.module, bare)
        place, label = _named(owner)
        state = "trained" if group.role != "frozen" else "quantised" if group.quantised else "frozen"
        area = found.setdefault((place, label, state), Area(place, label, state, 0, group.count, 0.0))
        area.parameters += group.parameters
        area.modules = max(area.modules, group.count)
    _size(list(found.values()))
    return [area for area in found.values() if area.parameters]


def _owner(module: str, bare: set[str]) -> str:
    """The model's own module that an added one sits in; itself where it is in none."""
    parts = module.split(".")
    inside = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((path for path in inside if path in bare), module)


def _named(path: str) -> tuple[str, str]:
    """Where a module is and what it is called there: ``model.layers.{}.mlp.up_proj`` is ``up_proj`` in ``mlp``."""
    layered = _LAYERS.match(path)
    inside = (layered[2] if layered else path).split(".")
    if layered:
        return (inside[0] if len(inside) > 1 else "norms"), ".".join(inside[1:] or inside)
    return ("", inside[-1]) if len(inside) < 3 else (inside[-2], inside[-1])


def _size(all_areas: list[Area]) -> None:
    """Give each its size: the number of parameters, or for what is trained the least that can be seen."""
    total = sum(area.parameters for area in all_areas)
    trained = [area for area in all_areas if area.state == "trained" and area.parameters]
    least = max(LEAST, VISIBLE / len(trained)) * total if trained else 0
    for area in all_areas:
        area.drawn = max(area.parameters, least) if area in trained else area.parameters


def caption(all_areas: Sequence[Area]) -> str:
    """What area and colours mean, with what is not to scale."""
    states = {area.state for area in all_areas}
    legend = ["**Grey** is frozen"] if "frozen" in states else []
    legend += ["**blue** is quantised"] if "quantised" in states else []
    legend += ["**orange** is trained"] if "trained" in states else []
    text = f"Area shows the number of parameters. {', '.join(legend)}."
    if any(area.enlarged for area in all_areas):
        trained = sum(area.parameters for area in all_areas if area.state == "trained")
        share = units.percent(100 * trained / sum(area.parameters for area in all_areas))
        text += (
            f" Orange is **not to scale**: it is {share} of the parameters, drawn large enough to be seen."
        )
    return text


def treemap(all_areas: Sequence[Area], height: int = 340) -> go.Figure:
    """The areas, those of one place together. Labels and figures are the true ones, whatever the size drawn."""
    colours = {"trained": theme.TRAINABLE, "quantised": theme.QUANTISED, "frozen": theme.FROZEN}
    ids, labels, parents, drawn, shown, colour, notes = [], [], [], [], [], [], []
    total = sum(area.parameters for area in all_areas)
    for place in dict.fromkeys(area.place for area in all_areas if area.place):
        inside = [area for area in all_areas if area.place == place]
        ids.append(place)
        labels.append(place)
        parents.append("")
        drawn.append(sum(area.drawn for area in inside))
        shown.append(sum(area.parameters for area in inside))
        colour.append(palette.CHART_AREA_PLACE)
        notes.append("")
    for area in all_areas:
        ids.append(f"{area.place}/{area.label}/{area.state}")
        labels.append(area.label + (f" ×{area.modules}" if area.modules > 1 else ""))
        parents.append(area.place)
        drawn.append(area.drawn)
        shown.append(area.parameters)
        colour.append(colours[area.state])
        notes.append(f"<br>{area.state}" + (", drawn larger than it is" if area.enlarged else ""))
    figure = go.Figure(
        go.Treemap(
            ids=ids,
            labels=labels,
            parents=parents,
            values=drawn,
            customdata=[
                [f"{number:,}", units.percent(100 * number / total), text]
                for number, text in zip(shown, notes, strict=True)
            ],
            marker={"colors": colour, "line": {"width": 1, "color": palette.WHITE}},
            branchvalues="total",
            texttemplate="%{label}<br>%{customdata[0]}",
            hovertemplate=(
                "%{label}<br>%{customdata[0]} parameters<br>%{customdata[1]} of the model"
                "%{customdata[2]}<extra></extra>"
            ),
            tiling={"pad": 1},
            pathbar={"visible": False},
        )
    )
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, height=height, uniformtext={"minsize": 10, "mode": "hide"}
    )
    return figure
