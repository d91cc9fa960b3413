// Set by hand: the rank on its strip, virtual tokens out of their strip, targets on the matrices. What a value would train
// is known for every stop (peft_lab/ui/components/block.py); the value is sent when it is let go.

import { clamp, make, say } from "./numbers.js";
import { stepKey } from "./panels.js";

const RESTS = 120; // ms without a key until a value is sent: with the server's count it is there within 250
const PIXELS = 16; // CSS pixels of a drag from one stop to the next
const LETTERS = { rank: "r", width: "m", tokens: "virtual tokens" };
const ON = { rank: '[data-mark="A"], [data-mark="B"], .filled', width: '[data-mark="glass"]', tokens: ".trained.cell" };

export class Handles {
  constructor(living) {
    this.living = living;
    this.tools = living.host.querySelector(".tools");
    this.edit = make("button", "edit", "Choose targets");
    this.edit.type = "button";
    this.edit.onclick = () => this.#editing(!this.editing);
    this.grips = make("div", "grips");
    this.count = make("output", "count");
    this.tools.append(this.grips, this.edit, this.count);
    living.pictures.addEventListener("pointerdown", (event) => this.#grab(event));
  }

  take(handles) {
    this.sliders = handles.filter((handle) => handle.kind !== "targets");
    this.targets = handles.find((handle) => handle.kind === "targets");
    this.tools.hidden = !handles.length;
    this.edit.hidden = !this.targets;
    if (!this.targets) this.#editing(false);
    const focused = this.grips.contains(this.living.root.activeElement) && this.living.root.activeElement.dataset.knob;
    this.grips.replaceChildren(...this.sliders.map((handle) => this.#grip(handle)));
    if (focused) [...this.grips.children].find((grip) => grip.dataset.knob === focused)?.focus({ preventScroll: true });
    for (const handle of this.sliders) {
      handle.at = handle.start = Math.max(0, handle.stops.findIndex((stop) => stop.value === handle.value));
      this.#show(handle);
    }
    if (!this.sliders.length) say(this.count, "");
    for (const part of this.living.host.querySelectorAll("[data-path]"))
      part.classList.toggle("offered", Boolean(this.targets?.names[part.dataset.path]));
  }

  /** The same by keyboard, and a name for it. */
  #grip(handle) {
    const grip = make("span", "grip");
    grip.dataset.knob = handle.knob;
    Object.assign(grip, { role: "slider", tabIndex: 0 });
    grip.setAttribute("aria-label", handle.label);
    grip.onkeydown = (event) => {
      const wanted = stepKey(event, handle.at, handle.stops.length - 1);
      if (wanted === null) return;
      this.#move(handle, wanted);
      clearTimeout(this.resting);
      this.resting = setTimeout(() => this.#release(handle), RESTS);
    };
    grip.onpointerdown = (event) => this.#drag(handle, event, (to) => to.clientX - event.clientX);
    handle.grip = grip;
    return grip;
  }

  #grab(event) {
    if (event.button || this.editing) return;
    const handle = this.sliders?.find(({ kind }) => event.target.matches?.(ON[kind]));
    if (!handle) return;
    const lies = event.target.getBoundingClientRect();
    // A lies under its matrix and grows downwards; B, hourglasses and cells grow to the right.
    const down = handle.kind === "rank" && lies.width > lies.height;
    this.#drag(handle, event, (to) => (down ? to.clientY - event.clientY : to.clientX - event.clientX));
  }

  #drag(handle, event, way) {
    event.preventDefault();
    const start = handle.at;
    const end = new AbortController();
    const on = (name, act) => window.addEventListener(name, act, { signal: end.signal });
    this.dragged = false;
    on("pointermove", (to) => {
      const wanted = clamp(start + Math.round(way(to) / PIXELS), 0, handle.stops.length - 1);
      if (wanted !== handle.at) this.dragged = true;
      this.#move(handle, wanted);
    });
    on("pointerup", () => (end.abort(), this.#release(handle)));
    on("pointercancel", () => (end.abort(), this.#move(handle, start)));
  }

  #move(handle, at) {
    if (at === handle.at) return;
    handle.at = at;
    this.#show(handle);
    this.#preview(handle);
  }

  #show(handle) {
    const stop = handle.stops[handle.at];
    const said = `${LETTERS[handle.kind]} = ${stop.value}`;
    const figure = `${stop.trainable.toLocaleString("en")} trained`;
    say(handle.grip, said);
    say(this.count, figure);
    for (const [name, value] of [
      ["valuemin", handle.stops[0].value], ["valuemax", handle.stops.at(-1).value], ["valuenow", stop.value],
      ["valuetext", `${said}, ${figure}`],
    ])
      handle.grip.setAttribute(`aria-${name}`, value);
  }

  /** In the drawing at once, by the drawing's own rule for thickness (peft_lab/drawing/svg.py). */
  #preview(handle) {
    const { value } = handle.stops[handle.at];
    const places = [...this.living.host.querySelectorAll(ON[handle.kind])].filter((one) => one.dataset.mark || handle.kind === "tokens");
    for (const shape of places) {
      if (handle.kind === "rank") {
        const [full, most] = shape.dataset.full.split(" ").map(Number);
        const thick = 2 + (most - 2) * Math.min(1, Math.log1p(value) / Math.log1p(full));
        shape.setAttribute(shape.dataset.mark === "A" ? "height" : "width", thick.toFixed(1));
        const bar = shape.nextElementSibling;
        if (bar?.classList.contains("filled")) bar.setAttribute(shape.dataset.mark === "A" ? "height" : "width", thick);
      } else if (handle.kind === "tokens") {
        const first = shape.parentElement.querySelector(".trained.cell");
        const share = Math.min(2.5, value / handle.stops[handle.start].value);
        shape.style.transformOrigin = `${first.getAttribute("x")}px 0`;
        shape.style.transform = `scaleX(${share})`;
      }
    }
  }

  #release(handle) {
    if (handle.at === handle.start) return;
    handle.start = handle.at;
    this.living.send("values", { [handle.knob]: handle.stops[handle.at].value });
  }

  // -- targets -------------------------------------------------------------------------------------------------------

  #editing(yes) {
    this.editing = yes;
    this.edit.setAttribute("aria-pressed", String(yes));
    say(this.edit, yes ? "Done choosing" : "Choose targets");
    this.living.host.classList.toggle("editing", yes);
  }

  /** Whether a click was ours: the end of a drag, or a matrix that is taken or left out. */
  took(event) {
    if (this.tools.contains(event.target)) return true;
    if (this.dragged) return !(this.dragged = false);
    if (!this.editing) return false;
    const path = event.target.closest("[data-path]")?.dataset.path;
    const name = this.targets.names[path];
    if (!name) return Boolean(path);
    const now = this.#names();
    const wanted = now.includes(name) ? now.filter((one) => one !== name) : [...now, name];
    this.targets.value = wanted;
    this.living.send("values", { [this.targets.knob]: wanted });
    return true;
  }

  /** The targets one by one: "all-linear" stands for every matrix. */
  #names() {
    const all = this.targets.value.includes("all-linear");
    return all ? [...new Set(Object.values(this.targets.names))] : this.targets.value;
  }
}
