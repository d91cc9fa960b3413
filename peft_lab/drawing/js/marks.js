// What changes in the drawing itself as the steps go by: strips fill, gates open, trained parts glow with their gradient.

import { decode, draw, known, largest } from "./numbers.js";

const GLOW = 7; // user units, for the largest gradient of the run
const FAINT = 0.25; // of what has not moved yet

/** The marks of one drawing, each with how it shows a value between 0 and 1. */
export class Marks {
  constructor(svg) {
    this.svg = svg;
    this.packed = [...svg.querySelectorAll(".choice:has(> .hatch)")];
    this.places = [...svg.querySelectorAll(".choice")].map((choice) => new Place(choice)).filter((one) => one.trained);
  }

  /** Show a run's state in a layer. `share`: of the way from this state to the next, while an update goes on. */
  show(run, layer, state, share = 0) {
    for (const place of this.places) {
      const part = run.partAt(place.path, layer, place.kind);
      const next = Math.min(state + 1, run.last);
      const [now, then] = [run.relative(part, "change", state), run.relative(part, "change", next)];
      place.fill(part ? now + (then - now) * share : 0);
      place.glow(run.relative(part, "gradient", state));
      place.open(part, state);
      place.gone(place.kind === "encoder" && run.ended && state === run.last);
    }
  }

  /** As drawn: no run. */
  clear() {
    for (const place of this.places) place.clear();
  }

  /** Strips melt into their matrix, by a share from 0 to 1. */
  melt(share) {
    for (const place of this.places) place.melt(share);
  }

  /** 4-bit matrices are unpacked while data is in them, and thrown away after it. */
  unpack(busy) {
    for (const choice of this.packed) choice.classList.toggle("unpacked", busy.has(choice.dataset.path));
  }
}

/** One part of a method in the drawing. */
class Place {
  constructor(choice) {
    this.choice = choice;
    this.path = choice.dataset.path;
    const mark = (name) => choice.querySelector(`:scope > [data-mark="${name}"]`);
    this.strips = [mark("A"), mark("B")].filter(Boolean);
    this.gate = mark("gate");
    this.dots = [...choice.querySelectorAll(":scope > circle.trained")];
    this.glass = mark("glass");
    this.cells = [...choice.querySelectorAll(":scope > .trained.cell")];
    this.boxes = [...choice.querySelectorAll(":scope > .box.trained")];
    this.weight = mark("W");
    this.kind = this.strips.length ? "low_rank" : this.gate ? "gate" : this.glass ? "bottleneck" : "";
    if (!this.kind && this.cells.length) this.kind = this.path === "tokens" ? "cells" : "columns";
    if (!this.kind && this.boxes.length > 1) this.kind = "encoder";
    if (!this.kind && this.boxes.length) this.kind = "trainable";
    if (!this.kind && this.dots.length) this.kind = "bias";
    this.trained = Boolean(this.kind);
    this.fills = [];
  }

  get shapes() {
    return [...this.strips, ...(this.glass ? [this.glass] : []), ...this.cells, ...this.boxes, ...this.dots];
  }

  /** A strip is filled along its length; what has no length becomes full in colour. */
  fill(value) {
    if (this.strips.length && !this.fills.length) this.fills = this.strips.map((strip) => this.#over(strip));
    this.strips.forEach((strip, index) => {
      const [width, height] = ["width", "height"].map((name) => Number(strip.getAttribute(name)));
      const bar = this.fills[index];
      if (width >= height) bar.setAttribute("width", width * value);
      else {
        bar.setAttribute("height", height * value);
        bar.setAttribute("y", Number(strip.getAttribute("y")) + height * (1 - value));
      }
    });
    if (this.strips.length) return;
    // Mixed, not transparent: a glow behind the part must not shine through it. A box keeps the ground of its letters.
    const depth = Math.round(100 * (FAINT + (1 - FAINT) * Math.sqrt(value)));
    for (const shape of this.shapes)
      if (!this.boxes.includes(shape)) shape.style.fill = `color-mix(in srgb, var(--trained) ${depth}%, var(--paper))`;
  }

  #over(strip) {
    const bar = draw("rect", { class: "filled", rx: 1 });
    for (const name of ["x", "y", "width", "height"]) bar.setAttribute(name, strip.getAttribute(name));
    strip.classList.add("to-fill");
    strip.after(bar);
    return bar;
  }

  /** Violet, by the gradient that it takes. */
  glow(value) {
    const reach = value > 0 ? 1 + GLOW * Math.sqrt(value) : 0;
    const light = reach ? `drop-shadow(0 0 ${(reach / 2).toFixed(1)}px var(--backward))` : "";
    const outlined = this.strips.length ? this.strips : this.glass ? [this.glass] : this.gate ? [this.gate] : this.boxes;
    for (const shape of outlined.length ? outlined : [...this.cells, ...this.dots]) {
      if (shape.glows === light) continue;
      shape.glows = light;
      shape.style.filter = light;
    }
  }

  /** A gate's dots grow where it amplifies and shrink where it inhibits: four of the recorded factors, furthest from 1. */
  open(part, state) {
    const series = part?.tensors?.l;
    if (!this.gate || !series?.[state]) return;
    const most = (part.most ??= largest(series.flatMap((tensor) => (tensor ? [...decode(tensor)].map(Math.abs) : []))));
    const values = [...decode(series[state])];
    const quarter = Math.ceil(values.length / this.dots.length);
    this.dots.forEach((dot, index) => {
      const some = values.slice(index * quarter, (index + 1) * quarter);
      const far = some.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
      dot.setAttribute("r", (1.9 * (1 + (known(far) && most ? (0.7 * far) / most : 0))).toFixed(2));
    });
  }

  gone(yes) {
    this.choice.classList.toggle("gone", yes);
  }

  melt(share) {
    if (!this.strips.length) return;
    for (const shape of [...this.strips, ...this.fills]) {
      const [x, y] = shape.getAttribute("height") > shape.getAttribute("width") ? [-22 * share, 0] : [0, -16 * share];
      shape.style.transform = share ? `translate(${x}px, ${y}px)` : "";
      shape.style.opacity = share ? 1 - share : "";
    }
    this.weight?.classList.toggle("merged", share >= 1);
  }

  clear() {
    for (const bar of this.fills) bar.remove();
    this.fills = [];
    for (const strip of this.strips) strip.classList.remove("to-fill");
    for (const shape of this.shapes) shape.style.fill = "";
    this.glow(0);
    this.gone(false);
    this.melt(0);
  }
}
