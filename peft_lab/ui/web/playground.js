// The recorded runs of a grid of settings. Four controls say what the learner wants; the nearest recorded run is shown.
// Run and step decide what is drawn; all of it is drawn at once, from the record alone, without the server.

const OPENS_AT = 10;
const PLOT = { left: 34, right: 84, top: 10, under: 32 }; // pixels of the curve's picture around the curves
const GRID = 0.4; // nats between the lines of the curve's picture
const CUT = 1.5; // times the first loss: what is above is cut off
const APART = 15; // pixels between the two words at the curves' ends
const MOVED = 8; // times as much as the others weighs the control that was moved
// How much a control's whole range weighs when the nearest run is sought.
const WEIGHTS = { rank: 1, rate: 1, ratio: 0.4, targets: 0.7 };
const NAMES = {
  rank: (value) => `rank ${Math.round(value)}`,
  ratio: (value) => `α = ${value === 1 ? "" : value}r`,
  rate: (value) => `learning rate ${Number(value.toPrecision(2))}`,
  targets: (value, record) => record.targets[value],
};
const BACK = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
const same = (one, other) => Math.abs(Math.log(one / other)) < 1e-9;

/** A slider's logarithmic axis from the least to the most of its stops. */
class Axis {
  constructor(values) {
    this.stops = [...new Set(values)].sort((one, other) => one - other);
    this.least = Math.log(this.stops[0]);
    this.span = Math.log(this.stops.at(-1)) - this.least || 1;
  }

  place(value) {
    return (Math.log(value) - this.least) / this.span;
  }

  at(place) {
    const value = Math.exp(this.least + place * this.span);
    return this.stops.find((stop) => Math.abs(this.place(stop) - place) < 0.012) ?? value;
  }
}

class Playground {
  constructor(host) {
    this.host = host;
    this.find = (name) => host.querySelector(name);
    this.knob = (axis) => this.find(`[data-axis="${axis}"]`);
    this.listen();
  }

  take(record, data, send) {
    this.send = send;
    this.data = data;
    if (this.record?.id !== record.id) this.begin(record);
    this.button();
  }

  begin(record) {
    this.record = record;
    this.last = record.steps;
    this.step = Math.min(OPENS_AT, this.last);
    this.axes = { rank: new Axis(record.runs.map((run) => run.rank)), rate: new Axis(record.runs.map((run) => run.rate)) };
    this.first = record.runs[record.opens];
    this.tries = this.challenges();
    this.build();
    this.wish = this.settings(this.first);
    this.show(this.first, "");
    this.challenge(0);
  }

  settings({ rank, ratio, rate, targets }) {
    return { rank, ratio, rate, targets };
  }

  // -- what does not change with the run -----------------------------------------------------------------------------

  build() {
    const { record } = this;
    this.find(".many").textContent = record.runs.length;
    this.find(".what").textContent = record.what;
    this.find(".said").textContent = `“${record.order}”`;
    this.find(".again small").textContent = record.again;
    this.find(".measured").title = record.about;
    for (const it of this.host.querySelectorAll(".count")) it.textContent = record.blocks;
    for (const [name, axis] of Object.entries(this.axes)) {
      const stops = axis.stops.map((value) => {
        const it = made("span", "", made("i"), String(value).replace(/^0/, ""));
        it.style.left = `${100 * axis.place(value)}%`;
        return it;
      });
      this.knob(name).querySelector(".stops").replaceChildren(...stops);
    }
    const pills = (name, values, word) => {
      const those = values.map((value) => {
        const input = made("input");
        Object.assign(input, { type: "radio", name, value });
        return made("label", "pill", input, word(value));
      });
      this.knob(name).querySelector(".pills").replaceChildren(...those);
    };
    pills("ratio", [...new Set(record.runs.map((run) => run.ratio))].sort(), NAMES.ratio);
    pills("targets", record.targets.map((_, at) => at), (at) => record.targets[at]);
    this.bars = record.slots.map((slot) => {
      const bars = Array.from({ length: record.leading }, () => made("i"));
      return { bars, it: made("div", "slot", made("b", "", slot), ...bars) };
    });
    this.find(".spectrum").replaceChildren(...this.bars.map(({ it }) => it));
    this.blocks = Array.from({ length: record.blocks }, () => made("i"));
    this.find(".blocks").replaceChildren(...this.blocks);
    this.find("#step").max = this.last;
  }

  curve() {
    const svg = this.find("svg.curve");
    const wide = svg.clientWidth;
    if (!wide || !this.record) return;
    const { runs } = this.record;
    const high = svg.clientHeight;
    this.bottom = high - PLOT.under;
    const losses = runs.flatMap((run) => run.loss).filter((loss) => loss !== null);
    const most = Math.min(Math.max(...losses), CUT * this.first.loss[0]);
    this.most = Math.ceil(most / GRID) * GRID;
    const end = wide - PLOT.right;
    this.x = (step) => PLOT.left + ((end - PLOT.left) * step) / this.last;
    this.y = (nats) => this.bottom - ((this.bottom - PLOT.top) * nats) / this.most;
    this.path = ({ loss }) => loss.map((nats, at) => (nats === null ? "" : `${at && loss[at - 1] !== null ? "L" : "M"}${this.x(at + 1).toFixed(1)} ${this.y(nats).toFixed(1)}`)).join("");
    const clip = drawn("clipPath", { id: "inside" });
    clip.append(drawn("rect", { x: 0, y: 0, width: wide, height: this.bottom + 2 }));
    const lines = [];
    for (let nats = 0; nats < this.most + GRID / 2; nats += GRID) {
      const y = this.y(nats);
      lines.push(
        drawn("line", { class: "grid", x1: PLOT.left, x2: end, y1: y, y2: y }),
        drawn("text", { x: PLOT.left - 8, y: y + 4, "text-anchor": "end" }, Number(nats.toFixed(1))),
      );
    }
    this.marks = [0, 5, 10, 15, 20, 25].filter((step) => step <= this.last).map((step) => {
      const it = drawn("text", { x: this.x(step), y: high - 2, "text-anchor": "middle" }, step);
      it.step = step;
      return it;
    });
    this.twins = drawn("path", { class: "twin" });
    this.line = drawn("path", { class: "mine" });
    this.usual = drawn("path", { class: "usual", d: this.path(this.first) });
    this.moment = drawn("line", { class: "moment", y1: PLOT.top, y2: this.bottom + 8 });
    this.dot = drawn("circle", { class: "dot", r: 5 });
    this.now = drawn("text", { class: "now", y: high - 2, "text-anchor": "middle" });
    this.above = drawn("text", { class: "above", x: end - 8, y: PLOT.top + 15, "text-anchor": "end" });
    this.words = ["mine-word", "mine-figure", "usual-word"].map((name) => drawn("text", { class: name, x: end + 10 }));
    const inside = drawn("g", { "clip-path": "url(#inside)" });
    inside.append(
      drawn("path", { class: "others", d: runs.map(this.path).join("") }),
      this.usual, this.twins, this.line, this.moment, this.dot,
    );
    svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    svg.replaceChildren(clip, ...lines, ...this.marks, inside, this.above, ...this.words, this.now);
    const range = this.find("#step");
    range.style.left = `${PLOT.left - 10}px`;
    range.style.width = `${end - PLOT.left + 20}px`;
    this.drawn = null;
  }

  // -- which run is shown --------------------------------------------------------------------------------------------

  /** The recorded run that is nearest to the wish; of equally near ones the first. */
  nearest(wish, moved) {
    const far = (run) => Object.entries(WEIGHTS).reduce((sum, [name, weight]) => {
      const axis = this.axes[name];
      const apart = axis ? Math.abs(axis.place(run[name]) - axis.place(wish[name])) : Number(run[name] !== wish[name]);
      return sum + weight * apart * (name === moved ? MOVED : 1);
    }, 0);
    return this.record.runs.filter((run) => run.seed === this.first.seed).reduce((best, run) => (far(run) < far(best) ? run : best));
  }

  move(name, value) {
    const wish = { ...this.wish, [name]: value };
    const run = this.nearest(wish, name);
    const other = Object.keys(WEIGHTS).filter((axis) => !(this.axes[axis] ? same(wish[axis], run[axis]) : wish[axis] === run[axis]));
    const words = (of) => other.map((axis) => NAMES[axis](of[axis], this.record)).join(", ");
    this.show(run, other.length ? `Not recorded: ${words(wish)}. Shown: the nearest run, ${words(run)}.` : "", name);
    return run;
  }

  /** Leave every control at the settings of the run that is shown. */
  settle() {
    this.wish = this.settings(this.run);
    this.controls();
  }

  controls(dragged) {
    const { run } = this;
    for (const [name, axis] of Object.entries(this.axes)) {
      const knob = this.knob(name);
      const range = knob.querySelector("input");
      if (name !== dragged) range.value = axis.place(run[name]);
      range.style.setProperty("--done", range.value);
      range.setAttribute("aria-valuetext", NAMES[name](run[name]));
      knob.querySelector("output").textContent = run[name];
      [...knob.querySelector(".stops").children].forEach((it, at) => it.classList.toggle("on", same(axis.stops[at], run[name])));
    }
    for (const name of ["ratio", "targets"]) {
      for (const input of this.knob(name).querySelectorAll("input")) input.checked = Number(input.value) === run[name];
    }
    this.knob("ratio").querySelector("output").textContent = run.alpha;
    this.find(".factor").textContent = run.ratio;
  }

  show(run, snapped = "", dragged = "") {
    this.run = run;
    this.find(".snapped").textContent = snapped;
    this.controls(dragged);
    const cost = this.record.costs[run.cost];
    this.find(".trained").textContent = cost.trained;
    this.find(".peak").textContent = cost.peak;
    this.find(".bar").replaceChildren(...cost.parts.map(([name, share]) => {
      const it = made("i", name);
      it.style.flexGrow = share;
      return it;
    }));
    this.find(".parts").replaceChildren(...cost.parts.map(([name, , size]) => made("span", name, made("i"), `${name} ${size}`)));
    this.button();
    this.follow();
  }

  button() {
    if (!this.run) return;
    const go = this.find(".go");
    const lasts = this.data.durations[this.run.cost];
    go.textContent = `Run it here${lasts ? ` (${lasts})` : ""}`;
    go.href = this.run.query;
  }

  // -- everything that follows the step ------------------------------------------------------------------------------

  follow() {
    const { record, run, step } = this;
    this.host.dataset.step = step;
    const loss = step ? run.loss[step - 1] : null;
    const said = step ? (loss === null ? "not a number" : loss.toPrecision(2)) : "not yet trained";
    this.find(".now-loss").textContent = step ? `${said} in step ${step}` : said;
    const range = this.find("#step");
    range.value = step;
    range.style.setProperty("--done", step / this.last);
    range.setAttribute("aria-valuetext", `Step ${step} of ${this.last}, loss ${said}`);

    const asked = record.asked.findLastIndex((at) => at <= step);
    const answers = run.answers.map((at) => record.rows[at]);
    const answer = answers[asked];
    this.find(".asked").textContent = record.asked[asked];
    this.find(".fields").textContent = `${answer.right} of ${answer.total} fields right`;
    if (this.answer !== answer) this.find(".text").replaceChildren(...marks(answer));
    this.answer = answer;
    const wrong = answers.findLastIndex((one) => one.right < one.total);
    const final = answers.at(-1);
    this.find(".sums").textContent = wrong === answers.length - 1
      ? `After ${this.last} steps the answer has ${final.right} of ${final.total} fields right.`
      : `From step ${record.asked[wrong + 1]} on the answer is right.`;

    const shown = Math.min(run.rank, record.leading);
    this.find(".directions").textContent = `ΔW of block 1: ${run.rank > shown ? `${shown} of ${run.rank} directions` : shown > 1 ? `its ${shown} directions` : "its one direction"}, up to ${Number(run.top.toPrecision(2))}`;
    this.bars.forEach(({ bars }, slot) => bars.forEach((bar, at) => {
      const value = run.spectrum[slot][step][at];
      bar.hidden = value === undefined;
      bar.style.height = `${(value ?? 0) / 10}%`; // from thousandths of the largest
    }));
    const furthest = Math.max(...run.moved.flat());
    run.moved[step].forEach((moved, at) => this.blocks[at].style.setProperty("--moved", `${((100 * moved) / furthest).toFixed(0)}%`));
    const percent = (moved) => `${Number((100 * moved * record.unit).toPrecision(2))}%`;
    this.find(".full").textContent = `full orange = ${percent(furthest)}`;
    const now = Math.max(...run.moved[step]);
    this.find(".blocks").setAttribute("aria-label", `By step ${step} block ${run.moved[step].indexOf(now) + 1} has moved furthest, by ${percent(now)} of its weights`);
    this.lines(loss);
  }

  lines(loss) {
    if (!this.line) return;
    const { run, step } = this;
    if (this.drawn !== run) {
      this.drawn = run;
      const twins = this.record.runs.filter((one) => one !== run && one.cost === run.cost && one.alpha === run.alpha && one.rate === run.rate);
      this.line.setAttribute("d", this.path(run));
      this.twins.setAttribute("d", twins.map(this.path).join(""));
      this.find(".seeds").hidden = !twins.length;
      const own = run === this.first;
      const worst = Math.max(...run.loss);
      this.above.textContent = worst > this.most ? `up to ${worst.toPrecision(2)}, above this picture` : "";
      const [word, figure, usual] = this.words;
      const [low, default_] = [run, this.first].map((one) => clamp(this.y(one.loss.at(-1) ?? this.most), PLOT.top + 12, this.bottom) - 2);
      word.textContent = "this run";
      word.setAttribute("y", low - 8);
      figure.textContent = run.loss.at(-1)?.toPrecision(2) ?? "diverged";
      figure.setAttribute("y", low + 7);
      // above this run's two lines, or below them where its loss is the higher
      usual.textContent = own ? "" : "default";
      usual.setAttribute("y", default_ > low + 7 + APART ? default_ : Math.min(default_, low - 8 - APART));
      this.usual.setAttribute("visibility", own ? "hidden" : "visible");
    }
    const x = this.x(step);
    for (const end of ["x1", "x2"]) this.moment.setAttribute(end, x);
    this.dot.setAttribute("visibility", loss === null ? "hidden" : "visible");
    this.dot.setAttribute("cx", x);
    this.dot.setAttribute("cy", this.y(loss ?? 0));
    this.now.setAttribute("x", x);
    this.now.textContent = step;
    for (const it of this.marks) it.setAttribute("visibility", Math.abs(it.step - step) < 1.5 ? "hidden" : "visible");
  }

  // -- guess first ---------------------------------------------------------------------------------------------------

  /** Changes of the default run that are worth a guess, each with its words; those that were recorded. */
  challenges() {
    const { rank, rate } = this.axes;
    const usual = this.settings(this.first);
    const times = (value, of) => (value > of ? `${Math.round(value / of)} times` : `1/${Math.round(of / value)} of`);
    const few = rank.stops[0];
    const [slow, fast] = [rate.stops[0], rate.stops.at(-1)];
    return [
      [{ rank: few }, `at rank ${few}, with ${times(few, usual.rank)} the parameters`],
      [{ rate: fast }, `at learning rate ${fast}, ${times(fast, usual.rate)} the default`],
      [{ rate: slow }, `at learning rate ${slow}, ${times(slow, usual.rate)} the default`],
      [{ rate: fast, targets: 1 }, `at learning rate ${fast}, with a correction beside every linear map`],
    ]
      .map(([change, words]) => ({ run: this.exact({ ...usual, ...change }), words }))
      .filter(({ run }) => run && run !== this.first);
  }

  exact(wish) {
    return this.record.runs.find((run) => run.seed === this.first.seed && Object.keys(wish).every((name) => run[name] === wish[name]));
  }

  challenge(number) {
    const { run, words } = this.tries[number % this.tries.length] ?? {};
    this.find(".try").hidden = !run;
    if (!run) return;
    const answer = this.record.rows[run.answers.at(-1)];
    const ask = (...content) => this.find(".question").replaceChildren(...content);
    const button = (text, act, label = text) => {
      const it = made("button", "guess", text);
      it.type = "button";
      it.setAttribute("aria-label", label);
      it.onclick = act;
      return it;
    };
    ask(made("b", "", "Try this. "), `Guess first: ${words}, how many of the ${answer.total} fields will be right after ${this.last} steps?`);
    const guess = (many) => {
      this.show(run);
      this.settle();
      this.go(this.last);
      ask(made("b", "", many === answer.right ? "Right. " : `You guessed ${many}. `), `${words[0].toUpperCase()}${words.slice(1)}: ${answer.right} of ${answer.total} fields right after ${this.last} steps.`);
      this.find(".guesses").replaceChildren(button("Another guess", () => {
        this.challenge(number + 1);
        this.find(".guess").focus();
      }));
      this.find(".guess").focus();
    };
    this.find(".guesses").replaceChildren(
      ...Array.from({ length: answer.total + 1 }, (_, many) => button(String(many), () => guess(many), `${many} of ${answer.total}`)),
    );
  }

  // -- hands ---------------------------------------------------------------------------------------------------------

  go(step) {
    this.step = clamp(Math.round(step), 0, this.last);
    this.follow();
  }

  listen() {
    for (const name of ["rank", "rate"]) {
      const range = this.find(`#${name}`);
      range.oninput = () => this.move(name, this.axes[name].at(Number(range.value)));
      range.onchange = () => this.settle();
      range.onkeydown = (event) => {
        const { stops } = this.axes[name];
        const at = stops.findIndex((stop) => same(stop, this.run[name]));
        const to = { Home: 0, End: stops.length - 1 }[event.key] ?? at + BACK[event.key];
        if (Number.isNaN(to)) return;
        event.preventDefault();
        this.move(name, stops[clamp(to, 0, stops.length - 1)]);
        this.settle();
      };
    }
    for (const name of ["ratio", "targets"]) {
      this.knob(name).onchange = ({ target }) => {
        this.move(name, Number(target.value));
        this.settle();
      };
    }
    this.find("#step").oninput = ({ target }) => this.go(Number(target.value));
    const svg = this.find("svg.curve");
    draggedOver(svg, PLOT, (share) => this.x && this.go(share * this.last));
    this.find(".go").onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.send("open", this.record.runs.indexOf(this.run));
    };
    new ResizeObserver(() => {
      this.curve();
      if (this.run) this.follow();
    }).observe(svg);
  }
}

export default mounted(".playground", (host) => new Playground(host));
