// Dots on the drawing's lines. The lines come from the drawing itself (peft_lab/drawing/pieces.py); nothing is laid out here.

import { clamp } from "./numbers.js";

/** A line that can be asked for the point after a distance. */
export class Lane {
  constructor(path) {
    const numbers = path.getAttribute("d").match(/-?\d+\.?\d*/g).map(Number);
    this.points = [];
    for (let index = 0; index < numbers.length; index += 2) this.points.push([numbers[index], numbers[index + 1]]);
    this.marks = [0];
    for (let index = 1; index < this.points.length; index += 1) {
      const [a, b] = [this.points[index - 1], this.points[index]];
      this.marks.push(this.marks[index - 1] + Math.hypot(b[0] - a[0], b[1] - a[1]));
    }
    this.length = this.marks.at(-1);
    this.kind = path.dataset.lane;
    this.of = path.dataset.of ?? "";
    this.from = Number(path.dataset.from);
    this.half = Number(path.dataset.half);
  }

  at(distance) {
    const along = clamp(distance, 0, this.length);
    let index = 1;
    while (index < this.marks.length - 1 && this.marks[index] < along) index += 1;
    const [a, b] = [this.points[index - 1], this.points[index]];
    const span = this.marks[index] - this.marks[index - 1];
    const share = span ? (along - this.marks[index - 1]) / span : 0;
    return [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];
  }
}

export const lanesOf = (svg) => [...svg.querySelectorAll(".lane")].map((path) => new Lane(path));
