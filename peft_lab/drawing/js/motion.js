// The dots: forward upwards in teal, backward downwards in violet, the trained way in orange. Painted on a canvas over the
// drawing, so that a frame repaints no part of the SVG.

import { lanesOf } from "./lanes.js";

export const SPEED = 90; // CSS pixels a second
const APART = 74; // user units between two dots that follow each other
const TRACKS = 5; // lanes of the residual stream that are told apart, one a token
const TRACK = 4; // user units between them
const STAGGER = [0, 7, 2, 10, 4]; // tokens need not be level
const TAIL = 9;
const DOT = 2.3; // radius of a dot whose size says nothing
const [LEAST, GROWS] = [0.9, 3.6]; // radius of a dot by a measured value from 0 to 1, as area
const FAINT_DOT = 0.3; // share of its colour
const TINTS = ["forward", "backward", "trained"];

export class Motion {
  constructor(canvas, tints) {
    this.canvas = canvas;
    this.tints = tints;
    this.lanes = [];
    this.offset = APART / 3;
  }

  /** Take the drawing that is shown; call again when it or its size changes. */
  measure(svg) {
    if (svg !== this.svg) {
      this.lanes = lanesOf(svg);
      this.boxes = [...svg.querySelectorAll("rect.box")].map((box) => {
        const [x, y, wide, high] = ["x", "y", "width", "height"].map((name) => Number(box.getAttribute(name)));
        return [x, y, x + wide, y + high];
      });
    }
    this.svg = svg;
    this.end = Math.max(0, ...this.lanes.map((lane) => lane.from + lane.length));
    this.begin = Math.min(0, ...this.lanes.map((lane) => lane.from));
    const [around, box] = [this.canvas.parentElement.getBoundingClientRect(), svg.getBoundingClientRect()];
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    const size = [Math.round(around.width * dense), Math.round(around.height * dense)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    this.scale = (box.width / svg.viewBox.baseVal.width) * dense;
    this.shift = [(box.left - around.left) * dense, (box.top - around.top) * dense];
    this.colours = Object.fromEntries(TINTS.map((name) => [name, getComputedStyle(this.tints[name]).color]));
  }

  advance(milliseconds, speed) {
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    this.offset += ((milliseconds / 1000) * SPEED * speed * dense) / this.scale;
  }

  /** Seconds for a dot from the tokens to the head. */
  get seconds() {
    return (this.end - this.begin) / SPEED;
  }

  /** Distances on a lane at which there are dots now. */
  positions(lane, backward, single) {
    const found = [];
    const total = this.end - this.begin;
    const first = backward ? total - this.offset : this.offset;
    if (single) {
      const at = this.begin + first - lane.from;
      return at >= 0 && at <= lane.length ? [at] : [];
    }
    let at = (((this.begin + first - lane.from) % APART) + APART) % APART;
    for (; at <= lane.length; at += APART) found.push(at);
    return found;
  }

  /**
   * Paint one moment.
   * `look`: {phase, single, share(path) and gradient(path), and of the stream's gradient `below` and `above` the block,
   * each from 0 to 1; 0 where nothing was measured or nothing passes}.
   * Returns the paths of the matrices that data is in just now.
   */
  paint(look) {
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const busy = new Set();
    if (look.phase === "update" || !look.phase) return busy;
    pen.setTransform(this.scale, 0, 0, this.scale, this.shift[0], this.shift[1]);
    const backward = look.phase === "backward";
    for (const lane of this.lanes) {
      const size = this.#size(lane, look, backward);
      if (size === null) continue;
      const tint = lane.kind === "trained" && !backward ? "trained" : backward ? "backward" : "forward";
      pen.fillStyle = pen.strokeStyle = this.colours[tint];
      for (const at of this.positions(lane, backward, look.single)) {
        if (lane.kind === "stream") this.#tokens(pen, lane, at, size, backward);
        else {
          if (lane.kind === "frozen") busy.add(lane.of);
          this.#dot(pen, lane, at, size, backward);
        }
      }
    }
    return busy;
  }

  /** Radius of a lane's dots; `null`: none, since nothing was measured there or nothing passes. */
  #size(lane, look, backward) {
    const by = (value) => (value > 0 ? LEAST + GROWS * Math.sqrt(value) : null);
    if (lane.kind === "trained") return by(backward ? look.gradient(lane.of) : look.share(lane.of));
    return backward ? by(this.#passing(lane, look)) : DOT;
  }

  /** The gradient on a line: none goes further down than the lowest trained part. */
  #passing(lane, look) {
    if (lane.half < 0) return 0; // the embedding table
    if (lane.half > 0) return look.above;
    if (look.below > 0 || lane.kind === "stream") return look.below;
    const lowest = this.lanes.filter((one) => one.kind === "trained" && one.half === 0 && look.gradient(one.of) > 0);
    if (!lowest.length || lane.from < Math.min(...lowest.map((one) => one.from))) return 0;
    return lane.of && lane.from <= Math.max(...lowest.map((one) => one.from + one.length)) && !look.gradient(lane.of) ? 0 : look.above;
  }

  #tokens(pen, lane, at, size, backward) {
    for (let track = 0; track < TRACKS; track += 1) {
      const along = at + STAGGER[track] * (backward ? -1 : 1);
      if (along < 0 || along > lane.length) continue;
      this.#dot(pen, lane, along, Math.min(size, DOT) * 0.8, backward, (track - (TRACKS - 1) / 2) * TRACK);
    }
  }

  #dot(pen, lane, at, radius, backward, aside = 0) {
    const [x, y] = lane.at(at);
    // Inside a box the dot is faint: its name stays readable.
    const inside = this.boxes.some(([left, top, right, under]) => x > left && x < right && y > top && y < under);
    const alpha = inside ? FAINT_DOT : 1;
    const [tx, ty] = lane.at(at + (backward ? TAIL : -TAIL));
    pen.globalAlpha = 0.35 * alpha;
    pen.lineWidth = radius;
    pen.beginPath();
    pen.moveTo(tx + aside, ty);
    pen.lineTo(x + aside, y);
    pen.stroke();
    pen.globalAlpha = alpha;
    pen.beginPath();
    pen.arc(x + aside, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }
}
