// Home's view of one recorded run on one order. One step index and one place in the right answer decide what is drawn;
// show() draws all of it at once, without the server, which is asked only about an order that the learner types.

const PLAY = 8000 / 25; // milliseconds a step, when played
const FIRST = 4000 / 10; // and at the first load, up to OPENS_AT
const OPENS_AT = 10;
const TOKENS_AFTER = 60; // milliseconds after a key until the server is asked for the exact tokens
const ANSWER_AFTER = 400; // and for the base model's answer
const LOOKS = [300, 500, 900, 1500]; // milliseconds between looks at an answer that is still to come
const SHOWN = 3; // of the likeliest tokens, beside the right one
const FULL_SHADE = 5; // surprise at which a token is shaded as dark as it gets
const DARKEST = 34; // percent
const NARROW = 520; // pixels, as in the style sheet
const HIGH = 176; // pixels of the curve's picture
const PLOT = { left: 26, right: 12, top: 10, bottom: 142 };
// What this tokenizer never joins; within a piece the server may find several tokens.
const PIECES = /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

const percent = (share) => (share < 0.01 ? "<1%" : share > 0.99 ? ">99%" : `${Math.round(100 * share)}%`);
/** Spaces and line ends as something to be seen. */
const visible = (text) => text.replace(/^ /, "·").replaceAll("\n", "↵");

class Sentence {
  constructor(host) {
    this.host = host;
    this.find = (name) => host.querySelector(name);
    this.step = 0;
    this.frame = 0;
    this.listen();
  }

  // -- what comes from the server ------------------------------------------------------------------------------------

  take(run, data, send) {
    this.send = send;
    if (this.run?.id !== run.id) this.begin(run);
    this.own = data.own;
    const field = this.find("input");
    field.readOnly = !data.editable;
    this.find(".pencil").textContent = data.editable ? "✎ type your own" : data.why;
    if (this.typed === undefined) {
      this.typed = field.value = data.order;
      this.order();
    } else if (data.own?.order === this.typed) {
      this.order();
    } else if (!data.own && this.typed === run.order) {
      this.order();
    }
    clearTimeout(this.looking);
    if (data.own?.order === this.typed && data.own.pending) this.look(0);
  }

  /** Ask for the answer until it comes: what has not changed is not sent again, so nothing comes before. */
  look(times) {
    const wait = LOOKS[Math.min(times, LOOKS.length - 1)];
    this.looking = setTimeout(() => {
      if (!this.host.isConnected) return;
      this.send("look", times);
      this.look(times + 1);
    }, wait);
  }

  begin(run) {
    this.run = run;
    this.last = run.loss.length;
    this.place = run.place;
    this.full = Math.ceil(Math.max(...Object.values(run.moved).flat(2)) * 200) / 2; // percent
    this.most = Math.max(...run.surprise.flat(), ...run.loss);
    this.build();
    this.step = Math.min(OPENS_AT, this.last);
    this.show();
    let first = false;
    try {
      first = !sessionStorage.getItem("peft-first");
      sessionStorage.setItem("peft-first", "played");
    } catch { /* storage is turned off: it opens still */ }
    if (first && !STILL.matches) this.play(0, Math.min(OPENS_AT, this.last), FIRST);
  }

  // -- what does not change with the step ----------------------------------------------------------------------------

  build() {
    const { run } = this;
    const bars = run.moved.q[0].map((_, block) => {
      const it = made("span", "block", made("i"), made("i"));
      it.title = `Block ${block + 1}`;
      return it;
    });
    this.find(".blocks").replaceChildren(...bars);
    this.bars = bars.map((it) => [...it.children]);
    this.find(".count-blocks").textContent = `${bars.length} frozen blocks`;
    this.find(".last-block").textContent = bars.length;
    this.find(".full").textContent = `(full height: ${this.full}%)`;

    this.rows = run.rows.map(({ steps, ...answer }) => {
      const text = made("div", "text");
      const at = made("b", "", `Step${steps.length > 1 ? "s" : ""} ${steps.join(", ")}`);
      const it = made("li", "row", made("div", "at", at, made("span", "fields")), text);
      return { it, text, steps, answer };
    });
    this.find(".rows").replaceChildren(...this.rows.map((row) => row.it));

    this.places = run.right_tokens.map((token, place) => {
      const it = made("span", "place", token.replace(/^ /, "\u00a0"));
      it.setAttribute("role", "radio");
      it.dataset.place = place;
      return it;
    });
    this.find(".right").replaceChildren(...this.places);

    const head = made("tr", "", made("td"));
    for (const { step } of run.answers) {
      const cell = made("th", "", `step ${step}`);
      cell.scope = "col";
      head.append(cell);
    }
    this.find("thead").replaceChildren(head);
    this.find(".badge").title = run.about;
    this.find(".about").textContent = run.where;
    const range = this.find("[type=range]");
    range.max = this.last;
    this.pick(this.place);
  }

  /** The order's tokens, the answers' marks, and what is known of this order only. */
  order() {
    const { run } = this;
    const own = this.typed !== run.order;
    const known = own && this.own?.order === this.typed ? this.own : null;
    const rough = () => `${this.typed}${run.ending}`.match(PIECES) ?? [];
    const tokens = own ? (known?.tokens ?? rough()) : run.order_tokens;
    this.find(".tokens").replaceChildren(...tokens.map((text) => made("span", "token", visible(text))));
    this.find(".count").textContent = own && !known?.tokens ? "" : `${tokens.length} tokens`;
    this.host.dataset.own = own;
    this.rows.forEach(({ it, text, answer }, number) => {
      const fields = it.querySelector(".fields");
      it.classList.toggle("all-right", !own && answer.right === answer.total);
      if (own) {
        const said = number ? "train to see" : (known?.answer ?? known?.problem ?? `asking ${run.model}…`);
        text.replaceChildren(made("span", known?.answer && !number ? "n" : "wait", said));
        fields.textContent = number ? "" : (known?.says ?? "");
        return;
      }
      fields.textContent = answer.right === answer.total ? "right" : `${answer.right} of ${answer.total} fields`;
      text.replaceChildren(...marks(answer));
    });
    this.show();
  }

  /** Another place of the right answer: its likeliest tokens at the recorded steps, and its curve. */
  pick(place) {
    const { run } = this;
    this.place = place;
    this.places.forEach((it, at) => {
      it.setAttribute("aria-checked", at === place);
      it.tabIndex = at === place ? 0 : -1;
    });
    const before = run.right_tokens.slice(0, place).join("");
    this.find(".before").textContent = before.length > 9 ? `…${before.slice(-8)}` : before || "JSON:";
    this.find(".asked").textContent = before ? `after ${this.find(".before").textContent} it writes` : "it begins with";

    const shares = run.answers.map(({ likeliest }) => new Map(likeliest[place].map(([at, share]) => [run.words[at], share])));
    const least = run.answers.map(({ likeliest }) => Math.min(...likeliest[place].map(([, share]) => share)));
    const right = run.right_tokens[place];
    const most = (word) => Math.max(...shares.map((by) => by.get(word) ?? 0));
    const others = [...new Set(shares.flatMap((by) => [...by.keys()]))].filter((word) => word !== right);
    others.sort((one, other) => most(other) - most(one));
    const lines = [right, ...others.slice(0, SHOWN)].map((word, number) => {
      const line = made("tr", number ? "" : "right-word");
      const name = made("th", "", visible(word));
      name.scope = "row";
      line.append(name);
      shares.forEach((by, at) => {
        const { step } = run.answers[at];
        const exact = number ? by.get(word) : Math.exp(-run.surprise[step][place]);
        const bar = made("i");
        bar.style.setProperty("--share", exact ?? 0);
        // of what is not among the likeliest, only the bound is known
        line.append(made("td", "", bar, exact === undefined ? `<${Math.max(1, Math.ceil(100 * least[at]))}%` : percent(exact)));
      });
      return line;
    });
    this.find("tbody").replaceChildren(...lines);
    this.curve();
    this.show();
  }

  // -- the curve -----------------------------------------------------------------------------------------------------

  curve() {
    const svg = this.find("svg.curve");
    const wide = svg.clientWidth;
    if (!wide || !this.run) return;
    const { run, place, last } = this;
    this.x = (step) => PLOT.left + ((wide - PLOT.left - PLOT.right) * step) / last;
    this.y = (nats) => PLOT.bottom - ((PLOT.bottom - PLOT.top) * nats) / this.most;
    const path = (values, from) => values.map((value, at) => `${at ? "L" : "M"}${this.x(at + from).toFixed(1)} ${this.y(value).toFixed(1)}`).join("");
    const lines = [];
    for (let at = 0; at <= this.most; at += 2) {
      lines.push(
        drawn("line", { class: "grid", x1: PLOT.left, x2: wide - PLOT.right, y1: this.y(at), y2: this.y(at) }),
        drawn("text", { x: PLOT.left - 8, y: this.y(at) + 4, "text-anchor": "end" }, at),
      );
    }
    for (let at = 0; at <= last; at += 5) {
      lines.push(drawn("text", { x: this.x(at), y: HIGH - 4, "text-anchor": "middle", "data-step": at }, at));
    }
    const key = (text, row, name) => {
      const y = PLOT.top + 10 + 18 * row;
      lines.push(
        drawn("line", { class: name, x1: wide - 168, x2: wide - 148, y1: y - 4, y2: y - 4 }),
        drawn("text", { x: wide - 142, y, class: `${name}-word` }, text),
      );
    };
    key("mean of the training rows", 1, "mean");
    key("at this token", 0, "here");
    this.now = drawn("text", { class: "now", y: HIGH - 3, "text-anchor": "middle" });
    this.line = drawn("line", { class: "moment", y1: PLOT.top, y2: PLOT.bottom + 10 });
    this.dots = [drawn("circle", { class: "mean-dot", r: 3.5 }), drawn("circle", { class: "here-dot", r: 4.5 })];
    svg.setAttribute("viewBox", `0 0 ${wide} ${HIGH}`);
    svg.replaceChildren(
      ...lines,
      drawn("path", { class: "mean", d: path(run.loss, 1) }),
      drawn("path", { class: "here", d: path(run.surprise.map((row) => row[place]), 0) }),
      this.line,
      ...this.dots,
      this.now,
    );
  }

  // -- everything that follows the step ------------------------------------------------------------------------------

  show() {
    const { run, step, place } = this;
    if (!run) return;
    const own = this.host.dataset.own === "true";
    this.host.dataset.step = step;
    this.bars.forEach(([q, v], block) => {
      q.style.height = `${(10000 * run.moved.q[step][block]) / this.full}%`;
      v.style.height = `${(10000 * run.moved.v[step][block]) / this.full}%`;
    });
    this.find(".by-step").textContent = `by step ${step}`;
    const furthest = ["q", "v"].map((part) => {
      const moved = run.moved[part][step];
      const most = Math.max(...moved);
      return `${part} up to ${(100 * most).toFixed(1)}%, in block ${moved.indexOf(most) + 1}`;
    });
    this.find(".blocks").setAttribute("aria-label", `By step ${step} the blocks have moved: ${furthest.join("; ")}`);

    const asked = run.answers.findLastIndex((answer) => answer.step <= step);
    const { step: latest } = run.answers[asked];
    for (const { it, steps } of this.rows) {
      const lit = steps.includes(latest);
      it.classList.toggle("lit", lit);
      if (lit) it.setAttribute("aria-current", "step");
      else it.removeAttribute("aria-current");
    }
    this.find(".answers h2").dataset.narrow = own ? "Its answers" : `Its answer at step ${latest}`;
    this.host.querySelectorAll("thead th, tbody td").forEach((it) => it.classList.remove("lit"));
    for (const line of this.host.querySelectorAll("thead tr, tbody tr")) line.children[asked + 1].classList.add("lit");

    this.places.forEach((it, at) => {
      const nats = run.surprise[step][at];
      it.style.setProperty("--shade", `${(DARKEST * Math.sqrt(Math.min(1, nats / FULL_SHADE))).toFixed(1)}%`);
      it.title = `${run.right_tokens[at].trim() || "space"}: probability ${percent(Math.exp(-nats))}, surprise ${nats.toFixed(2)}`;
    });
    this.find(".redder").textContent = `step ${step}`;
    const word = run.words[run.first[step][place]];
    const writes = this.find(".writes b");
    writes.textContent = visible(word);
    writes.className = word === run.right_tokens[place] ? "r" : "w";

    this.find(".at-step").textContent = `step ${step} of ${this.last}`;
    const range = this.find("[type=range]");
    range.value = step;
    const here = run.surprise[step][place];
    range.setAttribute("aria-valuetext", `Step ${step} of ${this.last}, surprise ${here.toFixed(2)} at ${run.right_tokens[place].trim()}`);
    range.style.setProperty("--done", step / this.last);
    if (!this.line) return;
    const x = this.x(step);
    this.line.setAttribute("x1", x);
    this.line.setAttribute("x2", x);
    const [mean, dot] = this.dots;
    mean.setAttribute("visibility", step ? "visible" : "hidden");
    mean.setAttribute("cx", x);
    mean.setAttribute("cy", this.y(run.loss[Math.max(0, step - 1)]));
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", this.y(here));
    this.now.setAttribute("x", x);
    this.now.textContent = step;
    for (const it of this.host.querySelectorAll("[data-step]")) {
      if (it !== this.host) it.setAttribute("visibility", Math.abs(it.dataset.step - step) < 1.5 ? "hidden" : "visible");
    }
  }

  go(step) {
    this.stop();
    this.step = clamp(Math.round(step), 0, this.last);
    this.show();
  }

  // -- playing -------------------------------------------------------------------------------------------------------

  play(from, to, pace) {
    this.stop();
    this.step = from;
    this.show();
    let due = 0;
    let before = 0;
    const tick = (now) => {
      if (this.step >= to || !this.host.isConnected) return this.stop();
      if (before && this.seen) due += Math.min(now - before, pace);
      before = now;
      if (due >= pace) {
        due -= pace;
        this.step += 1;
        this.show();
      }
      this.frame = requestAnimationFrame(tick);
    };
    this.frame = requestAnimationFrame(tick);
    this.playing(true);
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.playing(false);
  }

  playing(on) {
    const button = this.find(".play");
    this.host.dataset.playing = on;
    button.setAttribute("aria-label", on ? "Pause" : "Play the training");
  }

  // -- hands -----------------------------------------------------------------------------------------------------------

  listen() {
    const { host } = this;
    const range = this.find("[type=range]");
    range.oninput = () => this.go(Number(range.value));
    this.find(".play").onclick = () => {
      if (this.frame) this.stop();
      else this.play(this.step >= this.last ? 0 : this.step, this.last, PLAY);
    };

    const svg = this.find("svg.curve");
    draggedOver(svg, PLOT, (share) => this.x && this.go(share * this.last));

    const right = this.find(".right");
    right.onclick = (event) => {
      const it = event.target.closest(".place");
      if (it) this.pick(Number(it.dataset.place));
    };
    const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    right.onkeydown = (event) => {
      const many = this.places.length;
      const to = { Home: 0, End: many - 1 }[event.key] ?? this.place + MOVES[event.key];
      if (Number.isNaN(to)) return;
      event.preventDefault();
      this.pick((to + many) % many);
      this.places[this.place].focus();
    };

    const field = this.find("input");
    field.oninput = () => {
      this.stop();
      clearTimeout(this.looking);
      this.typed = field.value;
      this.order();
      this.tell(false, TOKENS_AFTER);
      this.tell(true, ANSWER_AFTER);
    };
    field.onchange = () => this.tell(true, 0);
    this.find(".again").onclick = () => {
      this.typed = field.value = this.run.order;
      this.order();
      this.tell(true, 0);
      field.focus();
    };

    this.timers = {};
    this.seen = true;
    new IntersectionObserver(([entry]) => (this.seen = entry.isIntersecting)).observe(host);
    const [target, answers] = [this.find(".target"), this.find(".answers")];
    new ResizeObserver(() => {
      // on a phone the curve comes first, with what it moves
      const home = host.clientWidth > NARROW ? answers : host;
      if (target.parentElement !== home) home.append(target);
      this.curve();
      this.show();
    }).observe(svg);
  }

  /** The order, for the server: its tokens at once, its answer once nobody types. */
  tell(answer, after) {
    clearTimeout(this.timers[answer]);
    const order = this.typed;
    const told = `${answer}${order}`;
    this.timers[answer] = setTimeout(() => {
      if (this.told === told || (this.told === `true${order}` && !answer)) return;
      this.told = told;
      this.send("order", { order, answer }, true);
    }, after);
  }
}

export default mounted(".sentence", (host) => new Sentence(host));
