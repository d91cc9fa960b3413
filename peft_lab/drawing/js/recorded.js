// A recorded run: what its numbers are at a state, in a layer. Everything that is drawn of a run is asked for here.

import { known, largest } from "./numbers.js";

const KEYS = ["share", "gradient", "change"];

export class Recorded {
  /** `run` is what peft_lab/drawing/living.py made of a trajectory. */
  constructor(run) {
    Object.assign(this, run);
    this.last = run.steps.length - 1;
    // One scale for the whole run, so that sizes can be compared between states, parts and layers.
    this.most = Object.fromEntries(KEYS.map((key) => [key, largest(run.parts.flatMap((part) => part[key]))]));
    this.most.stream = largest(run.stream.gradient.flatMap((row) => row ?? []));
    this.most.loss = largest(run.curve.loss);
    this.byLayer = Array.from({ length: run.layers }, () => []);
    this.outside = [];
    for (const part of run.parts) (this.byLayer[part.layer] ?? this.outside).push(part);
  }

  /** The layer that moved furthest in the end: where there is most to see. */
  get busiest() {
    const end = this.layerValues(this.last, "change");
    const top = largest(end);
    return top > 0 ? end.indexOf(top) : 0;
  }

  /** Parts of a layer and those outside the layers. */
  partsIn(layer) {
    return [...(this.byLayer[layer] ?? []), ...this.outside];
  }

  /** The part that the drawing shows at a path, such as "model.layers.{}.self_attn.q_proj" or "tokens". */
  partAt(path, layer, kind = "") {
    // A model with a task's head has its blocks one level deeper than the drawn one.
    const same = (at) => at === path || at.endsWith(`.${path}`) || path.endsWith(`.${at}`);
    const fits = (part) => (same(part.at) || part.slot === path) && (!kind || part.kind === kind);
    return this.partsIn(layer).find(fits);
  }

  /** A value between 0 and 1: this part's beside the largest of the run. */
  relative(part, key, state) {
    const value = part?.[key][state];
    return known(value) && this.most[key] > 0 ? value / this.most[key] : 0;
  }

  /**
   * One number for each layer: the root mean square of its parts' values, or `null` where nothing of it was measured.
   * Where a method has no parts in the layers (virtual tokens), it is how far the residual stream moved after each.
   */
  layerValues(state, key) {
    if (this.byLayer.every((parts) => !parts.length)) {
      const row = (key === "gradient" ? this.stream.gradient : this.stream.moved)[state];
      return Array.from({ length: this.layers }, (_, layer) => row?.[layer + 1] ?? null);
    }
    return this.byLayer.map((parts) => {
      const values = parts.map((part) => part[key][state]).filter(known);
      return values.length ? Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length) : null;
    });
  }

  /** What the strip of all layers shows, in words. */
  layerWords(key) {
    const inLayers = this.byLayer.some((parts) => parts.length);
    if (key === "gradient") return inLayers ? "Gradient norm, block by block" : "Gradient on the stream after each block";
    return inLayers ? "How far each block moved" : "How far the stream moved after each block";
  }

  /** Gradient on the stream under and over a layer; `null` where none passes. */
  streamGradient(layer, state) {
    const row = this.stream.gradient[state];
    return [row?.[layer] ?? null, row?.[layer + 1] ?? null];
  }

  /** The loss of the last step that led to a state; none at the first. */
  lossAt(state) {
    return this.curve.loss[this.steps[state] - 1];
  }

  answerAt(state) {
    const step = this.steps[state];
    return this.answers.filter((answer) => answer.step <= step).at(-1);
  }

  /** The recorded state nearest to a step. */
  nearest(step) {
    let best = 0;
    this.steps.forEach((each, state) => {
      if (Math.abs(each - step) < Math.abs(this.steps[best] - step)) best = state;
    });
    return best;
  }
}
