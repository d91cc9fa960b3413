
const stop = (address) => new URLSearchParams(address.search).get("stop");
const step = (to) => to.pathname !== location.pathname || stop(to) !== stop(location);
if (!history.pushState.mended) {
  const push = history.pushState.bind(history);
  history.pushState = (kept, title, to) =>
    step(new URL(to ?? "", location)) ? push(kept, title, to) : history.replaceState(kept, title, to);
  history.pushState.mended = true;
}
export default function () {
  const mend = () => {
    const all = document.querySelector('[data-testid="stSidebarNavItems"]');
    if (all === null) return;
    for (const section of all.querySelectorAll(":scope > div:not([role])")) {
      const heading = section.querySelector("header");
      if (heading === null) continue;
      all.setAttribute("role", "presentation");
      section.setAttribute("role", "list");
      section.setAttribute("aria-label", heading.innerText.split("\n")[0]);
      heading.setAttribute("role", "presentation");
    }
  };
  const close = (event) => {
    if (innerWidth > 768 || !event.target.closest?.('[data-testid="stSidebarNavLink"]')) return;
    setTimeout(() => document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click());
  };
  const app = document.querySelector(".stApp");
  const shade = () => { document.body.style.colorScheme = getComputedStyle(app).colorScheme; };
  const themes = new MutationObserver(shade);
  if (app !== null) {
    shade();
    themes.observe(app, { attributes: true, attributeFilter: ["class"] });
  }
  mend();
  document.addEventListener("click", close);
  const watcher = new MutationObserver(mend);
  watcher.observe(document.body, { childList: true, subtree: true });
  return () => {
    watcher.disconnect();
    themes.disconnect();
    document.removeEventListener("click", close);
  };
}
