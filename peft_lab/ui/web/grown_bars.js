
export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".rows");
  const child = (parent, kind, tag = "div") => {
    const made = document.createElement(tag);
    made.className = kind;
    parent.append(made);
    return made;
  };
  const known = new Map([...host.querySelectorAll(".row")].map((row) => [row.dataset.label, row]));
  const { limit } = data;
  host.classList.toggle("close", data.close);
  const totals = data.rows.map((row) => row.parts.reduce((sum, part) => sum + part.size, 0));
  const largest = Math.max(1, limit?.drawn ? limit.size : 0, ...totals);
  const shown = data.rows.map((one) => {
    let row = known.get(one.label);
    if (!row) {
      row = child(host, "row");
      row.dataset.label = one.label;
      const head = child(row, "head");
      child(head, "label", "span").textContent = one.label;
      child(head, "size", "span");
      child(head, "badge", "span");
      child(row, "track").setAttribute("aria-hidden", "true");
      child(row, "note");
    }
    row.querySelector(".size").textContent = one.text;
    const badge = row.querySelector(".badge");
    badge.textContent = one.source;
    badge.className = `badge ${one.source}`;
    badge.hidden = !one.source;
    const note = row.querySelector(".note");
    note.textContent = one.note;
    note.hidden = !one.note;
    const track = row.querySelector(".track");
    const have = new Map([...track.querySelectorAll("i")].map((part) => [part.dataset.name, part]));
    for (const part of data.legend) {
      const bar = have.get(part.name) ?? child(track, "", "i");
      bar.dataset.name = part.name;
      bar.style.background = part.colour;
      const size = one.parts.find((its) => its.name === part.name);
      bar.title = size ? `${part.name}: ${size.text}` : "";
      const width = `${(100 * (size?.size ?? 0)) / largest}%`;
      if (have.has(part.name)) bar.style.width = width;
      else { bar.getBoundingClientRect(); bar.style.width = width; }
    }
    const line = track.querySelector(".limit") ?? child(track, "limit", "b");
    line.hidden = !limit?.drawn;
    line.style.left = limit?.drawn ? `calc(${(100 * limit.size) / largest}% - 2px)` : "";
    for (const [name, part] of have) if (!data.legend.some((its) => its.name === name)) part.remove();
    return row;
  });
  for (const row of known.values()) if (!shown.includes(row)) row.remove();
  const legend = host.querySelector(".legend") ?? child(host, "legend");
  legend.replaceChildren(...data.legend.map((part) => {
    const entry = document.createElement("span");
    child(entry, "", "i").style.background = part.colour;
    entry.append(part.name);
    return entry;
  }));
  const words = host.querySelector(".limit-words") ?? child(host, "limit-words");
  words.hidden = !limit;
  words.textContent = limit?.text ?? "";
  if (limit?.drawn) words.prepend(document.createElement("i"));
  host.replaceChildren(words, ...shown, legend);
}
