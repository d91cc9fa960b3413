
const LEVELS = "%LEVELS%";
const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const PLUS = rgb("%PLUS%"), MINUS = rgb("%MINUS%");
export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".host");
  if (host.drawn !== data.drawing) {
    host.innerHTML = data.drawing;
    host.drawn = data.drawing;
    for (const canvas of host.querySelectorAll("canvas")) {
      const pen = canvas.getContext("2d"), image = pen.createImageData(canvas.width, canvas.height);
      [...canvas.dataset.entries].forEach((letter, at) => {
        const level = LEVELS.indexOf(letter) - 10;
        image.data.set([...(level < 0 ? MINUS : PLUS), 255 * Math.sqrt(Math.abs(level) / 10)], 4 * at);
      });
      pen.putImageData(image, 0, 0);
    }
    const list = host.querySelector(".list");
    const open = list && data.chosen.map((name) => list.querySelector(`[data-name="${name}"]`)).find(Boolean);
    if (open) list.scrollTop = open.offsetTop - list.clientHeight / 3;
  }
  for (const card of host.querySelectorAll("[data-name]")) {
    card.setAttribute("aria-pressed", String(data.chosen.includes(card.dataset.name)));
    card.onclick = () => {
      setTriggerValue("chosen", card.dataset.name);
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      document.querySelector(".st-key-atlas-details")?.scrollIntoView({ behavior: still ? "auto" : "smooth" });
    };
  }
}
