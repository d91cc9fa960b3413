// Under the drawing: the strip of all layers, the loss curve that is the scrubber, the numbers of the block, the answers.

import { brief, clamp, draw, known, largest, make, percent, say } from "./numbers.js";

const [WIDE, HIGH] = [300, 84]; // of the curve, in its own units
const MOST_CELLS = 128; // layers that are told apart

/** Arrow keys, Home and End on something that has positions from 0 to `last`. */
export function stepKey(event, at, last) {
  const page = Math.max(1, Math.round(last / 5));
  const moves = {
    ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1,
    Home: 0, End: last, PageUp: at + page, PageDown: at - page,
  };
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return null;
  event.preventDefault();
  event.stopPropagation();
  return clamp(moves[event.key], 0, last);
}

/** Which position of `count` the pointer is at, from left to right. */
const positionIn = (event, box, count) => clamp(Math.floor(((event.clientX - box.left) / box.width) * count), 0, count - 1);

function dragged(node, move) {
  node.onpointerdown = (event) => {
    if (event.button) return;
    node.setPointerCapture(event.pointerId);
    move(event);
    node.onpointermove = move;
  };
  node.onpointerup = node.onpointercancel = () => (node.onpointermove = null);
}

/** One cell a layer, as dark as it moved or took gradient; chooses the layer that the drawing shows. */
export class Layers {
  constructor(choose) {
    this.node = make("div", "layers");
    this.title = make("div", "layers-title");
    this.track = make("div", "layers-track");
    this.ends = make("div", "layers-ends");
    this.node.append(this.title, this.track, this.ends);
    Object.assign(this.track, { role: "slider", tabIndex: 0 });
    this.track.setAttribute("aria-label", "Block that the drawing shows");
    this.choose = choose;
    dragged(this.track, (event) => choose(positionIn(event, this.track.getBoundingClientRect(), this.count)));
    this.track.onkeydown = (event) => {
      const wanted = stepKey(event, this.layer, this.count - 1);
      if (wanted !== null) choose(wanted);
    };
  }

  show(run, state, layer, backward) {
    const key = backward ? "gradient" : "change";
    const values = run.layerValues(state, key).slice(0, MOST_CELLS);
    if (this.count !== values.length) {
      this.count = values.length;
      this.track.replaceChildren(...values.map(() => make("span", "layer")));
      this.ends.replaceChildren(make("span", "", "block 1"), make("span", "", `block ${this.count}`));
    }
    this.layer = layer;
    const most = this.most(run, key);
    values.forEach((value, index) => {
      const cell = this.track.children[index];
      const depth = known(value) && most > 0 ? Math.round(100 * Math.sqrt(value / most)) : 0;
      if (cell.depth !== depth) cell.style.setProperty("--depth", `${(cell.depth = depth)}%`);
      cell.classList.toggle("here", index === layer);
      cell.classList.toggle("none", !known(value));
    });
    this.track.classList.toggle("backward", backward);
    say(this.title, run.layerWords(key));
    const said = `Block ${layer + 1} of ${this.count}: ${backward ? brief(values[layer]) : percent(values[layer])}`;
    for (const [name, value] of [["valuemin", 1], ["valuemax", this.count], ["valuenow", layer + 1], ["valuetext", said]])
      this.track.setAttribute(`aria-${name}`, value);
  }

  /** The largest of all states, computed once a run. */
  most(run, key) {
    run.layerMost ??= {};
    return (run.layerMost[key] ??= largest(run.steps.flatMap((_, state) => run.layerValues(state, key))));
  }
}

/** The loss curve; its axis is the slider over the steps. */
export class Curve {
  constructor(go) {
    this.node = make("div", "curve");
    this.svg = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.top = make("span", "curve-top");
    this.slider = make("div", "steps");
    this.bar = make("span", "steps-bar");
    this.knob = make("span", "steps-knob");
    this.slider.append(this.bar, this.knob);
    this.ends = make("div", "steps-ends");
    this.node.append(this.top, this.svg, this.slider, this.ends);
    Object.assign(this.slider, { role: "slider", tabIndex: 0 });
    this.slider.setAttribute("aria-label", "Step");
    const to = (event) => {
      const box = this.slider.getBoundingClientRect();
      go(this.run.nearest(clamp((event.clientX - box.left) / box.width, 0, 1) * this.total));
    };
    dragged(this.slider, to);
    this.svg.addEventListener("pointerdown", to);
    this.slider.onkeydown = (event) => {
      const wanted = stepKey(event, this.state, this.run.last);
      if (wanted !== null) go(wanted);
    };
  }

  /** Draw the whole line; what has not been trained yet is grey. */
  take(run) {
    this.run = run;
    this.total = Math.max(run.total, run.steps.at(-1), run.curve.loss.length, 1);
    const x = (step) => ((step / this.total) * WIDE).toFixed(1);
    const most = run.most.loss || 1;
    const y = (loss) => (HIGH - 3 - (loss / most) * (HIGH - 8)).toFixed(1);
    const points = run.curve.loss.map((loss, index) => (known(loss) ? `${x(index + 1)} ${y(loss)}` : "")).filter(Boolean);
    const line = points.length ? `M${points.join(" L")}` : "";
    const done = run.curve.loss.length;
    this.clip = draw("rect", { class: "curve-past", x: 0, y: 0, width: 0, height: HIGH });
    this.now = draw("line", { class: "curve-now", y1: 0, y2: HIGH });
    this.dot = make("span", "curve-dot");
    this.svg.replaceChildren(
      draw("line", { class: "curve-floor", x1: 0, x2: WIDE, y1: HIGH - 3, y2: HIGH - 3 }),
      draw("path", { class: "curve-line", d: line }),
      this.now,
    );
    if (!run.ended && done < this.total)
      this.svg.prepend(draw("rect", { class: "to-come", x: x(done), y: 0, width: WIDE - x(done), height: HIGH }));
    say(this.top, run.curve.loss.length ? `training loss (nats), axis 0 to ${brief(most)}` : "no step yet");
    this.ends.replaceChildren(make("span", "", "step 0"), make("span", "", `step ${this.total}`));
    this.height = (loss) => y(loss) / HIGH;
    this.x = (step) => step / this.total;
  }

  show(state) {
    this.state = state;
    const step = this.run.steps[state];
    const place = 100 * this.x(step);
    this.now.setAttribute("x1", (place / 100) * WIDE);
    this.now.setAttribute("x2", (place / 100) * WIDE);
    this.bar.style.width = `${place}%`;
    this.knob.style.left = `${place}%`;
    const loss = this.run.lossAt(state);
    const said = `step ${step} of ${this.total}${known(loss) ? `, loss ${brief(loss)}` : ""}`;
    for (const [name, value] of [["valuemin", 0], ["valuemax", this.total], ["valuenow", step], ["valuetext", said]])
      this.slider.setAttribute(`aria-${name}`, value);
  }
}

/** What the model says to the example: before, and at this state. */
export class Answers {
  constructor() {
    this.node = make("div", "answers");
    this.question = make("p", "question");
    [this.before, this.now] = ["before", "now"].map((kind) => {
      const box = make("div", `answer ${kind}`);
      const [head, text] = [make("b"), make("p")];
      text.tabIndex = 0; // long answers scroll, by keyboard too
      box.append(head, text);
      return Object.assign(box, { head, text });
    });
    this.node.append(this.question, this.before, this.now);
  }

  show(run, state) {
    this.node.hidden = !run.answers.length;
    if (this.node.hidden) return;
    say(this.question, run.question);
    const [first, answer] = [run.answers[0], run.answerAt(state)];
    this.#fill(this.before, first.step ? `Step ${first.step}` : "Before, step 0", first);
    this.before.hidden = !answer || answer === first;
    const here = answer?.step === run.steps[state];
    if (answer) this.#fill(this.now, here ? `Now, step ${answer.step}` : `Latest answer (step ${answer.step})`, answer);
  }

  #fill(box, title, answer) {
    const right = answer.score >= 1;
    // a conversation's answer is judged by the words that it shares with the expected one
    const shared = answer.score > 0 ? `matches ${Math.round(100 * answer.score)}%` : "wrong";
    say(box.head, `${title}: ${right ? "right" : shared}`);
    say(box.text, answer.text || "(nothing)");
    box.classList.toggle("right", right);
  }
}

/** The numbers of the block that is shown, one line a part, with the singular values as bars. */
export class Numbers {
  constructor() {
    this.node = make("table", "numbers");
  }

  show(run, state, layer) {
    const parts = run.partsIn(layer).slice(0, 9);
    const spectra = parts.some((part) => part.spectrum[state]?.length);
    const shape = `${parts.map((part) => part.at + part.kind).join()}${spectra}`;
    if (this.shape !== shape) this.#build(parts, spectra, shape);
    parts.forEach((part, index) => {
      const row = this.rows[index];
      [percent(part.change[state]), percent(part.share[state]), brief(part.gradient[state])].forEach((text, column) =>
        say(row.cells[column + 1], text));
      if (!spectra) return;
      const most = (part.tallest ??= largest(part.spectrum.flat()));
      const bars = part.spectrum[state] ?? [];
      [...row.bars.children].forEach((bar, at) => bar.setAttribute("d", barPath(at, most ? (bars[at] ?? 0) / most : 0)));
    });
  }

  #build(parts, spectra, shape) {
    this.shape = shape;
    this.node.replaceChildren();
    const head = this.node.createTHead().insertRow();
    const attended = parts.every((part) => ["cells", "columns", "encoder"].includes(part.kind));
    const adds = attended ? ["attention", "share of the attention that lands on it"]
      : ["adds", "what it adds, beside the frozen output"];
    const titles = ["", "moved", adds[0], "gradient", ...(spectra ? ["singular values"] : [])];
    const long = ["", "how far it has moved, beside what it acts on or started from", adds[1],
      "norm of its gradient in the next step"];
    titles.forEach((text, index) => {
      const cell = make("th", "", text);
      if (long[index]) cell.title = long[index];
      head.append(cell);
    });
    const body = this.node.createTBody();
    this.rows = parts.map((part) => {
      const row = body.insertRow();
      row.append(make("th", "", part.name), make("td"), make("td"), make("td"));
      if (!spectra) return row;
      const count = Math.min(16, Math.max(0, ...part.spectrum.map((values) => values.length)));
      row.bars = draw("svg", { class: "bars", viewBox: `0 0 ${16 * 4} 14`, "aria-hidden": "true" });
      row.bars.append(...Array.from({ length: count }, () => draw("path")));
      row.append(make("td"));
      row.lastChild.append(row.bars);
      return row;
    });
  }
}

const barPath = (index, share) => `M${index * 4} 14v${-13 * share}h3v${13 * share}z`;
