// Figures: how they are read, scaled and written.

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
export const known = (value) => typeof value === "number" && Number.isFinite(value);

/** The largest of the known ones, 0 where there is none. */
export const largest = (values) => values.reduce((most, value) => (known(value) && value > most ? value : most), 0);

/** Two or three figures that count: 0.0123, 1.46, 12.3, 1,234. */
export function brief(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size < 0.001) return value.toExponential(1).replace("e-", "e−");
  return String(Number(value.toPrecision(size >= 1 ? 3 : 2)));
}

/** A share as per cent. */
export function percent(value) {
  if (!known(value)) return "–";
  if (value === 0) return "0%";
  const hundred = 100 * value;
  return hundred < 0.01 ? "<0.01%" : `${Number(hundred.toPrecision(2))}%`;
}

/** Numbers of a recorded tensor: signed bytes times their scale. */
export function decode(tensor) {
  const bytes = Int8Array.from(atob(tensor.data), (letter) => letter.charCodeAt(0));
  return Float32Array.from(bytes, (byte) => (byte * tensor.scale) / 127);
}

export function make(tag, kind = "", text = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
export function draw(tag, attributes = {}) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Set text only where it differs: untouched nodes are not laid out again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
