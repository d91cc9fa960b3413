"""The whole picture: token strip, embeddings, one block, head and legend, bottom to top along the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from peft_lab.drawing import ends, legend
from peft_lab.drawing.branch import Branch
from peft_lab.drawing.cores import joint
from peft_lab.drawing.metrics import Metrics
from peft_lab.drawing.pieces import PLUS, Norm
from peft_lab.drawing.placement import Placement
from peft_lab.drawing.style import STYLE
from peft_lab.drawing.svg import Canvas, number

HEADER, FOOT = 26.0, 10.0  # inside the frame, over and under the halves
BEHIND = 3.5  # offset of the frames behind, which stand for the other blocks


def compose(
    metrics: Metrics, placement: Placement, tokens: Sequence[str], selected: str | None, title: str
) -> tuple[str, float]:
    """The SVG and its height."""
    m, anatomy = metrics, placement.anatomy
    canvas, stream = Canvas(), Canvas()
    branches = [Branch(m, placement, half, len(tokens), selected) for half in anatomy.halves]
    turn = m.width - (22 if not m.fold else 14)
    left, right = 3.0, m.width - 4 - 2 * BEHIND
    turn = min(turn, right - 8)

    y = 4.0
    head_y, y = ends.head(canvas, m, placement, y, selected)
    frame_top = y + 2 * BEHIND
    y = frame_top + HEADER
    joints, leaves, middle = [], [], m.width / 2
    for branch in reversed(branches):
        back, leave, core = branch.draw(canvas, y, turn)
        joints.append((back, branch))
        leaves.append(leave)
        if branch.attention and branch.half.kind == "attention":
            middle, attention_bottom = core, y + branch.height - m.below
        y += branch.height + (12 if branch is not branches[0] else 0)
    frame_bottom = y + FOOT
    y = frame_bottom + 12
    if placement.at("attention", "encoder"):
        y = ends.prefix_encoder(canvas, m, placement, y, middle, attention_bottom, selected)
    start, y = ends.embedding(canvas, m, placement, y, selected)
    strip_top, y = ends.tokens(canvas, m, placement, tokens, y, selected)
    y += 12
    legend.draw(canvas, m, placement, y)
    y += legend.height(m, placement) + 2

    backdrop = Canvas()
    for index in (2, 1, 0):
        shift = BEHIND * index
        backdrop.rect(left + shift, frame_top - shift, right - left, frame_bottom - frame_top, "frame", 8)
    count = f"one of {anatomy.layers} identical blocks" if anatomy.layers > 1 else "the only block"
    label = f"{anatomy.stack}: {count}" if anatomy.stack else count
    backdrop.text(right - 10, frame_top + 14, label, m.name, "note strong", "end")
    remark = _remark(placement)
    if remark:
        backdrop.text(left + 12, frame_top + 14, remark, m.small, "note", "start")
    _stream(
        stream,
        m,
        placement,
        head_y,
        joints,
        strip_top if placement.at("tokens", "cells") else start,
        selected,
    )
    body = f"{backdrop}\n{stream}\n{canvas}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="peft-block {m.layout}" viewBox="0 0 {number(m.width)} {number(y)}" '
        f'role="group" aria-label="{escape(title)}">\n<style>{STYLE}</style>\n{body}\n</svg>'
    )
    return svg, y


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
    joints: Sequence[tuple[float, Branch]],
    bottom: float,
    selected: str | None,
) -> None:
    """The residual stream, from the bottom to the head, with the sums and the norms that stand on it."""
    y = bottom
    for back, branch in reversed(joints):
        canvas.arrow([(m.trunk, y), (m.trunk, back + PLUS)], "stream")
        joint(canvas, m.trunk, back, "+")
        y = back - PLUS
        norm = branch.half.on_stream
        if norm:
            box = Norm(m, placement, norm, selected)
            canvas.arrow([(m.trunk, y), (m.trunk, y - 8)], "stream", head=False)
            box.draw(canvas, m.trunk - box.w / 2, y - 8 - box.h / 2 + 2)
            y -= 8 + box.h - 2
    canvas.arrow([(m.trunk, y), (m.trunk, top)], "stream", head=False)
