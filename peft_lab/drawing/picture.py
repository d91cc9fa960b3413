"""The whole picture: token strip, embeddings, one block, head and legend, bottom to top along the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from peft_lab.drawing import head, inputs, lanes, legend
from peft_lab.drawing.branch import Branch, Levels
from peft_lab.drawing.cores import joint
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.pieces import PLUS, Norm
from peft_lab.drawing.placement import Placement
from peft_lab.drawing.style import STYLE
from peft_lab.drawing.svg import Canvas, number

FOOT = 9.0  # inside the frame, under the halves
REMARK = 20.0  # line for a remark at the frame's foot
APART = 10.0  # between the halves
BEHIND = 3.5  # offset of the frames behind, which stand for the other blocks
EDGE = 3.0


def compose(
    metrics: Metrics, placement: Placement, tokens: Sequence[str], selected: str | None, title: str
) -> tuple[str, float, float]:
    """The SVG, its width and its height."""
    anatomy = placement.anatomy
    branches = [Branch(metrics, placement, half, len(tokens)) for half in anatomy.halves]
    margin = EDGE + 9 + 2 * BEHIND
    m = replace(metrics, width=max([metrics.width, *(branch.reach + margin for branch in branches)]))

    canvas = Canvas(selected)
    head_y, y = head.head(canvas, m, placement, 4.0)
    frame_top = y + 2 * BEHIND
    y = frame_top + m.header
    levels: list[tuple[Branch, Levels]] = []
    for branch in reversed(branches):
        levels.append((branch, branch.draw(canvas, y, m.width - margin)))
        y += branch.height + APART
    frame_bottom = y - APART + FOOT + (REMARK if _remark(placement) else 0)
    y = frame_bottom + 12
    if placement.at("attention", "encoder"):
        branch, at = levels[-1]
        y = inputs.prefix_encoder(canvas, m, placement, y, at.core, at.row + branch.row / 2)
    start, looked_up, y = inputs.embedding(canvas, m, placement, y)
    strip, y = inputs.tokens(canvas, m, placement, tokens, y)
    legend.draw(canvas, m, placement, y + 12)
    y += 12 + legend.height(m, placement) + 2

    backdrop = Canvas(selected)
    _frame(backdrop, m, placement, frame_top, frame_bottom)
    virtual = placement.at("tokens", "cells")
    _stream(backdrop, m, placement, head_y, levels, strip if virtual else start)
    ways = _lanes(m, head_y, levels, start, looked_up)
    if virtual:
        ways.append(lanes.Lane("trained", ((m.trunk, strip), (m.trunk, start)), virtual.at, start - strip))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="peft-block {m.layout}" role="group" '
        f'viewBox="0 0 {number(m.width)} {number(y)}" aria-label="{escape(title)}">\n'
        f"<style>{STYLE}</style>\n{backdrop}\n{canvas}\n{lanes.svg(ways)}\n</svg>"
    )
    return svg, m.width, y


def _lanes(
    m: Metrics,
    top: float,
    levels: Sequence[tuple[Branch, Levels]],
    start: float,
    looked_up: Sequence[lanes.Point],
) -> list[lanes.Lane]:
    """All ways, measured from where the embeddings meet the stream: what is before that has a negative start."""
    before = lanes.Lane("flow", tuple(looked_up))
    ways = [replace(before, start=-before.length)]
    y = start
    for half, (branch, at) in enumerate(reversed(levels)):
        ways.append(lanes.Lane("stream", ((m.trunk, y), (m.trunk, at.back)), start=start - y, half=half))
        ways += lanes.placed(branch.lanes.found, start - at.leave, half)
        y = at.back
    return [*ways, lanes.Lane("stream", ((m.trunk, y), (m.trunk, top)), start=start - y, half=len(levels))]


def _frame(canvas: Canvas, m: Metrics, placement: Placement, top: float, bottom: float) -> None:
    right = m.width - EDGE - 1 - 2 * BEHIND
    for index in (2, 1, 0):
        shift = BEHIND * index
        canvas.rect(EDGE + shift, top - shift, right - EDGE, bottom - top, "frame", 8)
    anatomy = placement.anatomy
    rest = sum(count for count, _ in anatomy.others)
    count = f"one of {anatomy.layers} identical blocks" if anatomy.layers > 1 else "the only block"
    if rest:
        like = f"one of {anatomy.layers} such blocks" if anatomy.layers > 1 else "the only such block"
        count = f"{like}; {rest} differ" + ("s" if rest == 1 else "")
    label = f"{anatomy.stack}: {count}" if anatomy.stack else count
    canvas.text(right - 10, top + 14, label, m.name, "note strong", "end")
    remark = _remark(placement)
    if remark:
        canvas.text(m.first, bottom - 18, remark, m.small, "note strong", "start")


def _remark(placement: Placement) -> str:
    if placement.anatomy.side_by_side:
        return "attention and feed-forward run side by side"
    if not placement.shape.biases and not placement.parts:
        return "no biases in this model"
    return ""


def _stream(
    canvas: Canvas,
    m: Metrics,
    placement: Placement,
    top: float,
    levels: Sequence[tuple[Branch, Levels]],
    bottom: float,
) -> None:
    """The residual stream, from the bottom to the head, with the sums and the norms that stand on it."""
    y = bottom
    for branch, at in reversed(levels):
        canvas.arrow([(m.trunk, y), (m.trunk, at.back + PLUS)], "stream")
        joint(canvas, m.trunk, at.back, "+")
        y = at.back - PLUS
        if at.again is not None:
            canvas.arrow([(m.trunk, y), (m.trunk, at.again + PLUS)], "stream")
            joint(canvas, m.trunk, at.again, "+")
            y = at.again - PLUS
        if branch.half.on_stream:
            norm = Norm(m, placement, branch.half.on_stream, output="top")
            canvas.arrow([(m.trunk, y), (m.trunk, y - 6)], "stream", head=False)
            norm.draw(canvas, m.trunk - norm.w / 2, y - 6 - norm.h / 2)
            y -= 6 + norm.h
    canvas.arrow([(m.trunk, y), (m.trunk, top)], "stream", head=False)
