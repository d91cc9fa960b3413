// What opens beside a part when it is chosen: its modules, and of a recorded part a picture of its numbers at this state.

import { decode, largest, make } from "./numbers.js";

const EDGE = 8;
const HEADER = 64; // Streamlit's bar over the page

export class Details {
  constructor(host, panel) {
    Object.assign(this, { host, panel });
  }

  open(path, part) {
    const detail = this.data.details[path];
    if (!detail) return this.shut();
    this.opened = path;
    this.panel.hidden = false;
    this.#fill(detail);
    this.#place(part);
  }

  shut() {
    const path = this.opened;
    this.opened = undefined;
    this.panel.hidden = true;
    if (path && this.panel.contains(this.host.getRootNode().activeElement))
      [...this.host.querySelectorAll("[data-path]")].find((one) => one.dataset.path === path && one.checkVisibility())?.focus({ preventScroll: true });
  }

  /** What is open follows the knobs, a count that arrives, and the step. */
  again() {
    if (!this.opened) return;
    const detail = this.data.details[this.opened];
    if (!detail) return this.shut();
    if (this.drawn !== JSON.stringify(detail)) this.#fill(detail);
    this.#picture();
  }

  #fill(detail) {
    this.drawn = JSON.stringify(detail);
    const close = make("button", "", "×");
    close.setAttribute("aria-label", "Close");
    close.onclick = (event) => {
      event.stopPropagation();
      this.shut();
    };
    this.pictures = make("div", "pictures-of-part");
    this.panel.replaceChildren(close, make("h4", "", detail.title));
    if (detail.note) this.panel.append(make("p", "", detail.note));
    if (detail.rows.length) this.panel.append(this.#table(detail.rows));
    this.panel.append(this.pictures);
    this.#picture();
  }

  /** Beside the part, inside the window. */
  #place(part) {
    const [at, around] = [part.getBoundingClientRect(), this.host.getBoundingClientRect()];
    const [width, height] = [this.panel.offsetWidth, this.panel.offsetHeight];
    let top = at.bottom + EDGE;
    if (top + height > window.innerHeight - EDGE) top = at.top - height - EDGE;
    if (top < HEADER) top = Math.max(HEADER, window.innerHeight - height - EDGE);
    const left = Math.min(Math.max(at.left + at.width / 2 - width / 2, around.left), around.right - width);
    this.panel.style.top = `${top - around.top}px`;
    this.panel.style.left = `${left - around.left}px`;
  }

  #table(rows) {
    const table = make("table");
    const line = (tag, cells) => {
      const row = make("tr");
      cells.forEach((text, index) => row.append(make(index ? tag : "th", index === cells.length - 1 ? "n" : "", text)));
      return row;
    };
    table.createTHead().append(line("th", this.data.header));
    table.createTBody().append(...rows.map((cells) => line("td", cells)));
    return table;
  }

  #picture() {
    if (!this.pictures) return;
    const shown = this.recorded?.();
    const part = shown?.run.partAt(this.opened, shown.layer);
    const named = Object.entries(part?.tensors ?? {}).filter(([, series]) => series[shown.state]);
    this.pictures.replaceChildren(...named.map(([name, series]) => heatmap(name, series, shown.state, part, shown)));
  }
}

/** One tensor as pixels, on the scale of all its states: orange above zero, blue below. */
function heatmap(name, series, state, part, { run, layer }) {
  const tensor = series[state];
  const [rows, columns] = tensor.shape;
  part.scales ??= {};
  const most = (part.scales[name] ??= largest(series.map((one) => one?.scale)));
  const picture = make("canvas", "heatmap");
  [picture.width, picture.height] = [columns, rows];
  const pen = picture.getContext("2d");
  const image = pen.createImageData(columns, rows);
  decode(tensor).forEach((value, index) => {
    const [red, green, blue] = value >= 0 ? [194, 65, 12] : [29, 78, 216];
    image.data.set([red, green, blue, most ? Math.round(255 * Math.min(1, Math.abs(value) / most)) : 0], 4 * index);
  });
  pen.putImageData(image, 0, 0);
  picture.style.aspectRatio = `${Math.max(1, Math.min(8, columns / rows))}`;
  const box = make("figure");
  const words = `${name}${part.layer === null ? "" : ` in block ${layer + 1}`}, step ${run.steps[state]}, up to ±${most.toPrecision(2)}`;
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", words);
  box.append(picture, make("figcaption", "", words));
  return box;
}
