
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".host");
  const table = host.querySelector("table");
  const drawn = JSON.stringify([data.columns, data.rows]);

  const cell = (tag, column, text, kind) => {
    const made = document.createElement(tag);
    const share = kind?.startsWith("bar-") ? kind.slice(4) : "";
    made.className = [column.numeric ? "n" : "", column.wide ? "wide" : "", share ? "share" : kind].filter(Boolean).join(" ");
    if (share) made.style.setProperty("--share", `${share}%`);
    made.dataset.label = column.title;
    if (column.help) made.title = column.help;
    if (text !== null) made.textContent = text;
    return made;
  };

  if (table.drawn !== drawn) {
    const focused = host.getRootNode().activeElement?.closest?.("tr")?.dataset.id;
    table.setAttribute("aria-label", data.label);
    host.classList.toggle("flat", data.flat);
    const head = document.createElement("tr");
    for (const column of data.columns) {
      const made = cell("th", column, column.title, "");
      made.scope = "col";
      head.append(made);
    }
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...data.rows.map((row) => {
      const line = document.createElement("tr");
      line.dataset.id = row.id;
      row.cells.forEach((text, index) => {
        const column = data.columns[index];
        if (index > 0) return line.append(cell("td", column, text, row.kinds[index] ?? ""));
        const first = cell("th", column, null, row.kinds[0] ?? "");
        first.scope = "row";
        first.style.fontWeight = "400";
        const button = document.createElement("button");
        // a path may break after its dots, a sentence at its spaces
        const [head, below] = text.split("\n");
        for (const piece of head.includes(" ") ? [head] : head.split(/(?<=[._])/)) button.append(piece, document.createElement("wbr"));
        if (below) button.append(Object.assign(document.createElement("small"), { textContent: below }));
        first.append(button);
        line.append(first);
      });
      return line;
    }));
    table.drawn = drawn;
    if (focused) table.querySelector(`tr[data-id="${CSS.escape(focused)}"] button`)?.focus({ preventScroll: true });
  }

  const mark = (id) => {
    for (const line of table.tBodies[0].rows) {
      line.classList.toggle("chosen", line.dataset.id === id);
      const button = line.querySelector("button");
      if (data.flat) button.setAttribute("role", "radio");
      button.setAttribute(data.flat ? "aria-checked" : "aria-pressed", String(line.dataset.id === id));
    }
  };
  mark(data.selected);
  table.onclick = (event) => {
    const line = event.target.closest("tbody tr");
    if (!line) return;
    mark(line.dataset.id);
    setTriggerValue("chosen", line.dataset.id);
  };
}
