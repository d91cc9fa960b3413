"""Reads a drawing back from its SVG and finds what collides, leaves the picture or runs through something."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from peft_lab.drawing.svg import MONO, SANS

NS = "{http://www.w3.org/2000/svg}"
CAPITAL = 0.74  # height of a letter in em
TOUCH = 0.6  # units that things may overlap by before it counts


@dataclass(frozen=True)
class Thing:
    """A box, a shape or a text with its bounding box."""

    what: str
    x: float
    y: float
    right: float
    bottom: float

    def overlaps(self, other: Thing, slack: float = TOUCH) -> bool:
        return (
            self.x < other.right - slack
            and other.x < self.right - slack
            and self.y < other.bottom - slack
            and other.y < self.bottom - slack
        )

    def inside(self, other: Thing) -> bool:
        return (
            self.x >= other.x - TOUCH
            and self.right <= other.right + TOUCH
            and self.y >= other.y - TOUCH
            and self.bottom <= other.bottom + TOUCH
        )


@dataclass(frozen=True)
class Picture:
    """What a drawing consists of. ``lines`` are the segments (x1, y1, x2, y2) of all connections."""

    frame: Thing
    solids: tuple[Thing, ...]
    texts: tuple[Thing, ...]
    lines: tuple[tuple[str, float, float, float, float], ...]

    def problems(self) -> list[str]:
        return [*self._outside(), *self._collisions(), *self._text_collisions(), *self._crossings()]

    def _outside(self) -> Iterator[str]:
        for thing in (*self.solids, *self.texts):
            if not thing.inside(self.frame):
                yield f"{thing.what} leaves the picture"

    def _collisions(self) -> Iterator[str]:
        for index, a in enumerate(self.solids):
            for b in self.solids[index + 1 :]:
                nested = a.inside(b) or b.inside(a)
                if a.overlaps(b) and not (nested and {a.what, b.what} & {"cell"}):
                    yield f"{a.what} overlaps {b.what}"

    def _text_collisions(self) -> Iterator[str]:
        for index, text in enumerate(self.texts):
            for other in self.texts[index + 1 :]:
                if text.overlaps(other):
                    yield f"text {text.what} overlaps text {other.what}"
            for solid in self.solids:
                if text.overlaps(solid) and not text.inside(solid):
                    yield f"text {text.what} sticks out of or into {solid.what}"

    def _crossings(self) -> Iterator[str]:
        for cls, *ends in self.lines:
            x1, y1, x2, y2 = ends
            line = Thing(cls, min(x1, x2) - 0.1, min(y1, y2) - 0.1, max(x1, x2) + 0.1, max(y1, y2) + 0.1)
            for thing in (*self.texts, *self.solids):
                on_stream = cls == "stream" and thing.what in ("joint", "norm on the stream")
                if thing.overlaps(line, slack=2.2 if thing in self.solids else 0.3) and not on_stream:
                    yield f"a {cls} line at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f} crosses {thing.what}"


def read(svg: str) -> Picture:
    root = ET.fromstring(svg)
    _, _, width, height = (float(v) for v in root.attrib["viewBox"].split())
    trunk = _trunk(root)
    solids, texts, lines = [], [], []
    for element in root.iter():
        cls = element.get("class", "").split()
        if element.tag == NS + "text":
            texts.append(_text(element, cls))
        elif element.tag == NS + "rect" and not {"frame", "ring"} & set(cls):
            x, y, w, h = (float(element.attrib[key]) for key in ("x", "y", "width", "height"))
            kind = "cell" if "cell" in cls else " ".join(cls)
            if abs(x + w / 2 - trunk) < 0.2 and "frozen" in cls:
                kind = "norm on the stream"
            solids.append(Thing(kind, x, y, x + w, y + h))
        elif element.tag == NS + "circle" and "joint" in cls:
            x, y, r = (float(element.attrib[key]) for key in ("cx", "cy", "r"))
            solids.append(Thing("joint", x - r, y - r, x + r, y + r))
        elif element.tag == NS + "path" and cls == ["trained"]:
            points = _points(element.attrib["d"])
            xs, ys = [p[0] for p in points], [p[1] for p in points]
            if len(points) == 6:
                solids.append(Thing("hourglass", min(xs), min(ys), max(xs), max(ys)))
        elif element.tag == NS + "path" and cls and cls[0] in ("flow", "stream", "making"):
            points = _points(element.attrib["d"])
            pairs = itertools.pairwise(points)
            lines += [(cls[0], *a, *b) for a, b in pairs]
    frame = Thing("picture", 0, 0, width, height)
    return Picture(frame, tuple(solids), tuple(texts), tuple(lines))


def _trunk(root: ET.Element) -> float:
    paths = (e for e in root.iter(NS + "path") if e.get("class") == "stream")
    return _points(next(paths).attrib["d"])[0][0]


def _points(d: str) -> list[tuple[float, float]]:
    numbers = [float(value) for value in re.findall(r"-?\d+\.?\d*", d)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _text(element: ET.Element, cls: list[str]) -> Thing:
    size, x, base = (float(element.attrib[key]) for key in ("font-size", "x", "y"))
    words = "".join(element.itertext())
    em = MONO if {"name", "small"} & set(cls) else SANS
    width = len(words) * size * em
    left = {"middle": x - width / 2, "end": x - width}.get(element.get("text-anchor", ""), x)
    return Thing(repr(words), left, base - CAPITAL * size, left + width, base)
