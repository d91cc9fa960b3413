
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".host");
  const root = host.getRootNode();
  const find = (within, id) => within.querySelector(`[data-place="${id}"]`);

  const show = (spot, content) => {
    if (spot.drawn === content) return;
    const focused = spot.contains(root.activeElement) ? root.activeElement.dataset.place : null;
    const names = (one) => one.dataset.place ?? one.getAttribute("d");
    const before = new Set([...spot.querySelectorAll("svg .lit")].map(names));
    spot.innerHTML = content;
    spot.drawn = content;
    // What is lit now and was not is drawn from the root on: the path is seen to be walked.
    for (const kind of [".edge", ".place"]) {
      const fresh = [...spot.querySelectorAll(`svg ${kind}.lit`)].filter((one) => !before.has(names(one)));
      fresh.forEach((one, at) => {
        one.classList.add("new");
        one.setAttribute("pathLength", 1);
        one.style.setProperty("--at", at);
      });
    }
    if (focused) move(find(spot, focused));
  };
  const move = (place) => {
    if (!place) return;
    if (place.getAttribute("role") === "treeitem") {
      const inside = place.ownerSVGElement.querySelectorAll('[tabindex="0"]');
      for (const other of inside) other.setAttribute("tabindex", "-1");
      place.setAttribute("tabindex", "0");
    }
    place.focus({ preventScroll: true });
  };

  show(host.querySelector(".tree"), data.tree);
  show(host.querySelector(".narrow"), data.path);

  const choose = (place) => {
    if (place && data.offered) setTriggerValue("chosen", place.dataset.place);
  };
  host.onclick = (event) => {
    const place = event.target.closest("[data-place]");
    if (place?.getAttribute("role") === "treeitem") move(place);
    choose(place);
  };
  host.onkeydown = (event) => {
    const place = event.target.closest('[role="treeitem"]');
    if (!place) return;
    const all = [...place.ownerSVGElement.querySelectorAll('[role="treeitem"]')];
    const level = (each) => Number(each.getAttribute("aria-level"));
    const column = all.filter((each) => level(each) === level(place));
    const at = column.indexOf(place);
    const below = all.filter((each) => each.dataset.parent === place.dataset.place && level(each) === level(place) + 1);
    const steps = {
      ArrowRight: () => below.find((each) => each.classList.contains("lit")) ?? below[0],
      ArrowLeft: () => find(place.ownerSVGElement, place.dataset.parent || place.dataset.place),
      ArrowDown: () => column[at + 1],
      ArrowUp: () => column[at - 1],
      Home: () => all[0],
      End: () => all.findLast((each) => each.classList.contains("lit")),
    };
    if (event.key === "Enter" || event.key === " ") choose(place);
    else if (event.key in steps) move(steps[event.key]());
    else return;
    event.preventDefault();
  };
}
