// What the views of recorded runs share: making elements, an answer's marks, and waiting for the record.

const SVG = "http://www.w3.org/2000/svg";

const made = (tag, name = "", ...content) => {
  const it = document.createElement(tag);
  if (name) it.className = name;
  it.append(...content);
  return it;
};
const drawn = (tag, attributes, text) => {
  const it = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) it.setAttribute(name, value);
  if (text !== undefined) it.textContent = text;
  return it;
};
const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
/** The pieces of a marked answer, and the fields that it lacks. */
const marks = (answer) => [
  ...answer.pieces.map(([piece, verdict]) => made("span", verdict, piece)),
  ...answer.missing.map((name) => made("span", "missing", `${name} missing`)),
];

/** Call ``go`` with the share of the plot's width at which a pointer presses or drags on its picture. */
const draggedOver = (svg, plot, go) => {
  const drag = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) * svg.clientWidth) / box.width;
    go((at - plot.left) / (svg.clientWidth - plot.left - plot.right));
  };
  svg.onpointerdown = (event) => {
    svg.setPointerCapture(event.pointerId);
    drag(event);
  };
  svg.onpointermove = (event) => event.buttons && drag(event);
};

/** A component whose one view, made for the element of that name, takes its record and data, whichever comes last. */
const mounted = (name, make) => ({ data: [data], parentElement, setStateValue, setTriggerValue }) => {
  const host = parentElement.querySelector(name);
  const view = (host.view ??= make(host));
  const send = (what, value, lasting = false) => (lasting ? setStateValue : setTriggerValue)(what, value);
  const again = () => {
    const run = globalThis.peftRecords?.get(data.record);
    if (run) view.take(run, data, send);
  };
  const come = ({ detail }) => detail === data.record && again();
  window.addEventListener("peft-record", come);
  again();
  return () => window.removeEventListener("peft-record", come);
};

