// Time: which state is shown, which phase of the step, and the one loop of animation frames.

import { clamp } from "./numbers.js";

export const PHASES = ["forward", "backward", "update"];
const SHARES = { forward: 0.45, backward: 0.3, update: 0.25 }; // of a state's time while playing
const DWELL = 1500; // milliseconds a state at normal speed
const SPEEDS = [0.5, 1, 2, 4];
const LONGEST_FRAME = 150; // a tab that was asleep does not jump
const PACE = 1000 / 30; // milliseconds between two frames while nobody's pointer is on it: half the work of 60 a second
const SPARING = 1000 / 10; // the same while a run trains, often on the processor that paints
const EARLY = 4; // a frame of the screen comes when it comes: rather this much too early than one later

export class Player {
  /**
   * `onState(state)` when another state is shown, `onPhase()` when the phase changes, `onFrame(passed)` at every frame,
   * `still`: whether the reader asked for reduced motion. `near()`: whether the pointer is on it. `trains()`: whether
   * the run that is shown goes on.
   */
  constructor({ onState, onPhase, onFrame, still, near = () => false, trains = () => false }) {
    Object.assign(this, { onState, onPhase, onFrame, still, near, trains });
    this.state = 0;
    this.last = 0;
    this.phase = "forward";
    this.passed = 0; // milliseconds in this phase
    this.playing = false;
    this.single = 0; // milliseconds left of one pass that was asked for
    this.speed = 1;
    this.seen = false; // in the window
    this.frame = 0;
  }

  get runs() {
    return this.playing || this.single > 0;
  }

  /** The share of an update that is done. */
  get updating() {
    return this.phase === "update" && this.playing ? clamp(this.passed / this.#time("update"), 0, 1) : 0;
  }

  #time(phase) {
    return (DWELL * SHARES[phase]) / this.speed;
  }

  go(state, hold = true) {
    if (hold) this.pause();
    const wanted = clamp(state, 0, this.last);
    if (wanted === this.state) return;
    this.state = wanted;
    this.onState(wanted);
  }

  play() {
    if (this.last < 1) return;
    if (this.state >= this.last) this.go(0);
    this.single = 0;
    this.playing = true;
    this.#enter("forward");
    this.wake();
  }

  pause() {
    if (!this.runs) return;
    this.playing = false;
    this.single = 0;
    this.#enter("forward");
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  faster() {
    this.speed = SPEEDS[(SPEEDS.indexOf(this.speed) + 1) % SPEEDS.length];
    return this.speed;
  }

  /** One phase by itself; with motion, one pass of it. */
  show(phase, milliseconds) {
    this.playing = false;
    this.single = this.still ? 0 : milliseconds;
    this.#enter(phase);
    this.wake();
  }

  #enter(phase) {
    this.phase = phase;
    this.passed = 0;
    this.onPhase();
  }

  look(seen) {
    this.seen = seen;
    this.wake();
  }

  /** Start the loop if there is something to move and someone to see it. */
  wake() {
    if (this.frame || !this.runs || !this.seen || document.hidden) return;
    this.before = performance.now();
    const turn = (now) => {
      this.frame = 0;
      if (!this.runs || !this.seen || document.hidden) return;
      if (now - this.before >= (this.trains() ? SPARING : PACE) - EARLY || this.near()) {
        this.#pass(Math.min(now - this.before, LONGEST_FRAME));
        this.before = now;
      }
      this.frame = requestAnimationFrame(turn);
    };
    this.frame = requestAnimationFrame(turn);
  }

  #pass(milliseconds) {
    this.passed += milliseconds;
    if (this.single) {
      this.single = Math.max(0, this.single - milliseconds);
      if (!this.single) this.#enter(this.phase);
    } else if (this.passed >= this.#time(this.phase)) this.#next();
    this.onFrame(milliseconds);
  }

  #next() {
    if (this.phase === "forward" && this.state >= this.last) return this.pause();
    const following = PHASES[(PHASES.indexOf(this.phase) + 1) % PHASES.length];
    if (this.phase === "update") this.go(this.state + 1, false);
    this.#enter(following);
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.playing = false;
    this.single = 0;
  }
}
