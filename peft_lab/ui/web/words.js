// Every page: a word of the glossary is underlined where the page uses it first; its meaning shows while the pointer is on
// it, or after a tap. The page's own elements stay as they are: ranges are highlighted, and the tip lies outside the app.
(() => {
  if (!window.Highlight || !CSS.highlights) return;
  const MEANINGS = Object.fromEntries(Object.entries(%WORDS%)
    .flatMap(([meaning, forms]) => forms.map((form) => [form.toLowerCase(), meaning])));
  const forms = Object.keys(MEANINGS).sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`(?<![\\w.-])(?:${forms.join("|")})(?![\\w-]|\\.\\w)`, "gi");
  // What is pressed, edited, written in code or drawn, and what explains its words already.
  const LEFT_OUT = "a, button, code, pre, svg, input, textarea, [role=tab], .katex, .term, .glossary";
  const PAUSE = 2000; // milliseconds between readings of the page, which changes all the time while a run goes on
  const style = document.createElement("style");
  style.textContent = `::highlight(word) { text-decoration: underline dotted; }
    #word-tip { position: fixed; z-index: 1000000; max-width: 17rem; padding: 0.5rem 0.7rem; border-radius: 8px;
      border: 1px solid var(--peft-frame); background: var(--peft-page); color: var(--peft-ink);
      font: 0.84rem/1.4 "Source Sans", sans-serif; pointer-events: none; }`;
  const tip = Object.assign(document.createElement("div"), { id: "word-tip", hidden: true });
  tip.setAttribute("role", "tooltip");
  let marked = [], due = 0, last = -PAUSE;

  const mark = () => {
    due = 0;
    last = performance.now();
    const main = document.querySelector("[data-testid=stMain]");
    const seen = new Set();
    marked = [];
    const texts = main ? document.createTreeWalker(main, NodeFilter.SHOW_TEXT) : null;
    for (let node = texts?.nextNode(); node; node = texts.nextNode())
      for (const found of node.data.matchAll(pattern)) {
        const meaning = MEANINGS[found[0].toLowerCase()], parent = node.parentElement;
        if (seen.has(meaning) || parent.closest(LEFT_OUT) || !parent.checkVisibility()) continue;
        seen.add(meaning);
        const range = new StaticRange({ startContainer: node, startOffset: found.index, endContainer: node,
          endOffset: found.index + found[0].length });
        marked.push({ range, meaning });
      }
    CSS.highlights.set("word", new Highlight(...marked.map((word) => word.range)));
  };

  const boxes = ({ startContainer, startOffset, endOffset }) => {
    const range = document.createRange();
    range.setStart(startContainer, startOffset);
    range.setEnd(startContainer, endOffset);
    return [...range.getClientRects()];
  };

  const show = (event) => {
    const at = (box) => event.clientX >= box.left && event.clientX <= box.right &&
      event.clientY >= box.top && event.clientY <= box.bottom;
    const word = marked.find(({ range }) => range.startContainer.isConnected &&
      range.endOffset <= range.startContainer.length && event.target.contains?.(range.startContainer) && boxes(range).some(at));
    tip.hidden = !word;
    if (!word) return;
    const box = boxes(word.range).find(at);
    tip.textContent = word.meaning;
    const room = { x: innerWidth - tip.offsetWidth - 8, y: innerHeight - tip.offsetHeight - 8 };
    tip.style.left = `${Math.max(8, Math.min(box.left, room.x))}px`;
    tip.style.top = `${box.bottom + 6 > room.y ? Math.max(8, box.top - tip.offsetHeight - 6) : box.bottom + 6}px`;
  };

  addEventListener("DOMContentLoaded", () => {
    document.head.append(style);
    document.body.append(tip);
    new MutationObserver((changes) => {
      if (changes.some(({ target }) => target !== tip)) due ||= setTimeout(mark, Math.max(500, last + PAUSE - performance.now()));
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
    for (const kind of ["pointermove", "click"]) addEventListener(kind, show, { passive: true });
    addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
    addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });
  });
})();
