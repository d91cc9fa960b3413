// The living block: the drawing, a run that is played in it, and what is chosen in it. One instance a mounted component.

import { Details } from "./details.js";
import { Handles } from "./handles.js";
import { Marks } from "./marks.js";
import { Motion } from "./motion.js";
import { brief, known, make, percent, say } from "./numbers.js";
import { Answers, Curve, Layers, Numbers } from "./panels.js";
import { PHASES, Player } from "./player.js";
import { Recorded } from "./recorded.js";

const SPOKEN_EVERY = 1500; // milliseconds between two sentences of a run that plays
const LAYOUTS = ["wide", "narrow"];

class Living {
  constructor(host) {
    this.host = host;
    this.root = host.getRootNode();
    const find = (name) => host.querySelector(`.${name}`);
    [this.words, this.spoken, this.pictures, this.under] = ["words", "spoken", "pictures", "under"].map(find);
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.details = new Details(host, find("panel"));
    this.details.recorded = () => this.run && { run: this.run, layer: this.layer, state: this.player.state };
    const tints = Object.fromEntries(["forward", "backward", "trained"].map((name) => [name, find(`tint-${name}`)]));
    this.motion = new Motion(find("motion"), tints);
    this.player = new Player({
      onState: () => this.showState(),
      onPhase: () => this.showPhase(),
      onFrame: (passed) => this.turn(passed),
      still: this.still.matches,
      near: () => host.matches(":hover"),
      trains: () => Boolean(this.run) && !this.run.ended,
    });
    this.handles = new Handles(this);
    this.build();
    this.watch();
  }

  // -- controls, once ------------------------------------------------------------------------------------------------

  build() {
    const button = (kind, label, act) => {
      const made = make("button", kind);
      made.type = "button";
      made.setAttribute("aria-label", label);
      made.onclick = act;
      return made;
    };
    this.playButton = button("play", "Play", () => this.player.toggle());
    this.back = button("small-button back", "One state back", () => this.player.go(this.player.state - 1));
    this.forth = button("small-button forth", "One state on", () => this.player.go(this.player.state + 1));
    this.speed = button("small-button speed", "Speed", () => this.showSpeed(this.player.faster()));
    this.title = make("b", "run-title");
    this.step = make("span", "run-step");
    this.badge = make("span", "badge", "measured");
    this.label = make("span", "run-label");
    const heading = make("div", "run-heading");
    heading.append(this.title, this.step, this.badge);
    const head = make("div", "run-head");
    const moves = make("div", "run-moves");
    moves.append(this.back, this.forth, this.speed);
    head.append(this.playButton, heading, moves);
    this.phases = make("div", "phases");
    this.phases.setAttribute("role", "group");
    this.phases.setAttribute("aria-label", "Phase of a step");
    for (const phase of PHASES) {
      const chip = button(`phase ${phase}`, "", () => this.player.show(phase, (1000 * this.motion.seconds) / this.player.speed));
      chip.removeAttribute("aria-label");
      chip.textContent = phase;
      this.phases.append(chip);
    }
    this.layers = new Layers((layer) => this.chooseLayer(layer));
    this.curve = new Curve((state) => this.player.go(state));
    this.answers = new Answers();
    this.numbers = new Numbers();
    this.merge = button("merge", "", () => this.toggleMerge());
    this.merge.removeAttribute("aria-label");
    this.merged = make("p", "merged-words");
    const columns = make("div", "run-columns");
    columns.append(this.curve.node, this.answers.node);
    this.under.append(this.phases, this.layers.node, this.numbers.node, head, columns, this.merge, this.merged, this.label);
    // Space plays and pauses wherever the focus is among these controls, unless it presses a button.
    this.under.onkeydown = (event) => {
      if (event.key !== " " || event.target.tagName === "BUTTON") return;
      event.preventDefault();
      this.player.toggle();
    };
    this.showSpeed(1);
  }

  watch() {
    const end = new AbortController();
    this.sight = new IntersectionObserver((entries) => this.seen(entries.at(-1).isIntersecting));
    this.sight.observe(this.host);
    this.size = new ResizeObserver(() => this.fit());
    this.size.observe(this.pictures);
    document.addEventListener("visibilitychange", () => this.player.wake(), { signal: end.signal });
    this.still.addEventListener("change", () => this.calm(), { signal: end.signal });
    const come = ({ detail }) => this.data?.record === detail && this.runId !== detail && this.again();
    window.addEventListener("peft-record", come, { signal: end.signal });
    this.end = () => {
      end.abort();
      this.sight.disconnect();
      this.size.disconnect();
      this.player.stop();
    };
  }

  seen(yes) {
    if (yes && this.autoplay && !this.still.matches) {
      this.autoplay = false;
      this.player.play();
    }
    this.player.look(yes);
  }

  calm() {
    this.player.still = this.still.matches;
    if (this.still.matches) this.player.pause();
  }

  // -- what comes from the server ------------------------------------------------------------------------------------

  take(data, send) {
    this.data = this.details.data = data;
    this.send = send;
    say(this.words, data.words);
    let anew = false;
    for (const layout of LAYOUTS) anew = this.picture(this.host.querySelector(`.${layout}`), data[layout]) || anew;
    this.host.dataset.show = data.show.join(" ");
    const fresh = this.takeRun(data.run);
    if (anew || fresh) for (const marks of this.marks ?? []) marks.clear();
    if (anew || fresh) this.marks = LAYOUTS.map((layout) => new Marks(this.host.querySelector(`.${layout} > svg`)));
    this.mark(data.selected);
    this.handles.take(data.handles);
    this.fit();
    if (this.run) this.showState();
    this.details.again();
  }

  /** Replace a picture only when it changed; the focus then goes to the same part of the new one. */
  picture(place, svg) {
    if (place.drawn === svg) return false;
    const same = (path) => [...place.querySelectorAll("[data-path]")].filter((part) => part.dataset.path === path);
    const focused = place.contains(this.root.activeElement) ? this.root.activeElement.closest("[data-path]") : null;
    const path = focused?.dataset.path;
    const order = focused ? same(path).indexOf(focused) : 0;
    place.innerHTML = svg;
    place.drawn = svg;
    if (focused) (same(path)[order] ?? same(path)[0])?.focus({ preventScroll: true });
    return true;
  }

  takeRun(run) {
    if (run === undefined) return false;
    this.under.hidden = !run;
    this.host.classList.toggle("runs", Boolean(run));
    if (this.runId === run?.id) return false;
    const another = this.runName !== run?.run;
    [this.runId, this.runName] = [run?.id, run?.run];
    this.player.pause();
    if (!run) {
      this.run = undefined;
      return true;
    }
    const following = this.run && !another && this.player.state === this.run.last;
    this.run = new Recorded(run);
    this.player.last = this.run.last;
    if (another) this.layer = this.run.busiest;
    if (another) this.player.state = this.data.playing && !this.still.matches ? 0 : this.run.last;
    else if (following) this.player.state = this.run.last;
    this.player.state = Math.min(this.player.state, this.run.last);
    this.autoplay = another && this.data.playing;
    this.melted = false;
    this.curve.take(this.run);
    this.showPhase();
    say(this.title, this.data.title);
    say(this.label, this.run.label);
    if (this.player.seen) this.seen(true);
    return true;
  }

  mark(path) {
    for (const part of this.host.querySelectorAll("[data-path]")) {
      const chosen = path === part.dataset.path || Boolean(path?.startsWith(part.dataset.path + "."));
      part.classList.toggle("chosen", chosen);
      part.setAttribute("aria-pressed", String(chosen));
    }
  }

  // -- what is shown -------------------------------------------------------------------------------------------------

  get svg() {
    return LAYOUTS.map((layout) => this.host.querySelector(`.${layout} > svg`)).find((svg) => svg?.getClientRects().length);
  }

  /** Of the layout that fits; the other one is brought up to date when it comes to be seen. */
  get seenMarks() {
    return (this.marks ?? []).filter((marks) => marks.svg === this.shown);
  }

  fit() {
    const svg = this.svg;
    if (!svg) return;
    this.shown = svg;
    this.motion.measure(svg);
    if (this.run) this.showMarks();
    this.paint();
  }

  chooseLayer(layer) {
    this.layer = layer;
    this.showState();
  }

  showState() {
    const { run, layer, player } = this;
    const state = player.state;
    this.curve.show(state);
    this.layers.show(run, state, layer, player.phase === "backward");
    this.numbers.show(run, state, layer);
    this.answers.show(run, state);
    // States are measured every few steps: the drawing of a run that goes on says where the training is.
    const taken = run.curve.loss.length;
    const ahead = !run.ended && state === run.last && taken > run.steps[state] ? ` (training: ${taken})` : "";
    say(this.step, `step ${run.steps[state]}${ahead} of ${this.curve.total}, block ${layer + 1}`);
    this.back.disabled = state === 0;
    this.forth.disabled = state === run.last;
    this.showMarks();
    this.showMerge();
    this.details.again();
    this.paint();
    this.speak();
  }

  showMarks() {
    for (const marks of this.seenMarks) marks.show(this.run, this.layer, this.player.state, this.player.updating);
  }

  showPhase() {
    const { player } = this;
    const moving = player.playing;
    this.playButton.classList.toggle("playing", moving);
    this.playButton.setAttribute("aria-label", moving ? "Pause" : "Play");
    for (const chip of this.phases.children) {
      const now = chip.classList.contains(player.phase);
      chip.classList.toggle("now", now);
      chip.setAttribute("aria-pressed", String(now));
    }
    if (!this.run) return;
    this.layers.show(this.run, player.state, this.layer, player.phase === "backward");
    this.showMarks();
    this.paint();
    if (!moving) this.speak();
  }

  showSpeed(speed) {
    say(this.speed, `${speed}×`);
    this.speed.setAttribute("aria-label", `Speed ${speed} times; press to change`);
  }

  turn(passed) {
    if (!this.host.isConnected) return this.end();
    this.motion.advance(passed, this.player.speed);
    if (this.player.phase === "update") this.showMarks();
    this.paint();
  }

  paint() {
    if (!this.motion.svg) return;
    const { run, layer, player } = this;
    const state = player.state;
    const relative = (key) => (path) => run.relative(run.partAt(path, layer), key, state);
    const [below, above] = run ? run.streamGradient(layer, state) : [null, null];
    const look = { phase: run ? player.phase : "", share: relative("share"), gradient: relative("gradient") };
    look.below = (below ?? 0) / (run?.most.stream || 1);
    look.above = (above ?? 0) / (run?.most.stream || 1);
    const busy = this.motion.paint(look);
    for (const marks of this.seenMarks) marks.unpack(busy);
  }

  // -- merging -------------------------------------------------------------------------------------------------------

  /** Offered at the end of a run that recorded it. */
  showMerge() {
    const facts = this.run.merge;
    const there = Boolean(facts) && this.player.state === this.run.last && this.run.ended;
    this.merge.hidden = !there;
    if (!there && this.melted) this.melt(false);
    this.merged.hidden = !there || !this.melted;
    if (there) say(this.merge, this.melted ? "Take the strips out again" : "Merge into the matrices");
    if (there) say(this.merged, facts);
  }

  toggleMerge() {
    this.melt(!this.melted);
    this.showMerge();
  }

  melt(yes) {
    this.melted = yes;
    for (const marks of this.marks) marks.melt(yes ? 1 : 0);
  }

  // -- for who listens -----------------------------------------------------------------------------------------------

  /** What is to be seen, in a sentence; not more often than it can be followed. */
  speak() {
    clearTimeout(this.later);
    const wait = this.player.playing ? Math.max(0, (this.spokenAt ?? 0) + SPOKEN_EVERY - performance.now()) : 250;
    this.later = setTimeout(() => {
      this.spokenAt = performance.now();
      say(this.spoken, this.sentence());
    }, wait);
  }

  sentence() {
    const { run, layer, player } = this;
    if (!run) return "";
    const state = player.state;
    const loss = run.lossAt(state);
    const answer = run.answerAt(state);
    const parts = run.partsIn(layer).slice(0, 4).map((part) =>
      `${part.name} moved ${percent(part.change[state])}, gradient ${brief(part.gradient[state])}`);
    return [
      `Step ${run.steps[state]} of ${this.curve.total}, ${player.phase}.`,
      known(loss) ? `Loss ${brief(loss)}.` : "",
      parts.length ? `Block ${layer + 1}: ${parts.join("; ")}.` : "",
      answer ? `Answer at step ${answer.step}: ${answer.text}` : "",
    ].filter(Boolean).join(" ");
  }

  // -- choosing ------------------------------------------------------------------------------------------------------

  choose(event) {
    if (this.details.panel.contains(event.target) || this.under.contains(event.target)) return;
    if (this.handles.took(event)) return;
    const part = event.target.closest("[data-path]");
    if (!part) return this.details.shut();
    event.preventDefault();
    const path = part.dataset.path;
    if (this.details.opened === path) return this.details.shut();
    this.mark(path);
    this.details.open(path, part);
    this.send("chosen", path);
  }
}

/** A run, null where there is none. In the app its record is a part of its own: undefined until that has come. */
const recorded = ({ run = null, record }) => (record ? globalThis.peftRecords?.get(record) : run);

export default function ({ data: [data], parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".host");
  const living = (host.living ??= new Living(host));
  living.again = () => living.take({ ...data, run: recorded(data) }, setTriggerValue);
  living.again();
  host.onclick = (event) => living.choose(event);
  host.onkeydown = (event) => {
    if ((event.key === "Enter" || event.key === " ") && event.target.closest("[data-path]")) living.choose(event);
    else if (event.key === "Escape") living.details.shut();
  };
  // A call that was overtaken is told to clean up, too, while its host goes on with the newer one's data. What ends for
  // good has left the document before it is told.
  return () => host.isConnected || living.end();
}
