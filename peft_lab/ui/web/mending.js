
const stop = (address) => new URLSearchParams(address.search).get("stop");
const step = (to) => to.pathname !== location.pathname || stop(to) !== stop(location);
if (!history.pushState.mended) {
  const push = history.pushState.bind(history);
  history.pushState = (kept, title, to) =>
    step(new URL(to ?? "", location)) ? push(kept, title, to) : history.replaceState(kept, title, to);
  history.pushState.mended = true;
}
const sections = () => document.querySelectorAll('[data-testid="stSidebarNavItems"] > div');
const heading = (section) => section.querySelector("header");
const named = (section) => [...heading(section).querySelectorAll("p")].map((line) =>
  [...line.childNodes].filter((part) => part.nodeType === Node.TEXT_NODE).map((part) => part.data).join("")).join("").trim();
const open = (section) => section.childElementCount > 1;
const turn = (door, wanted) => {
  for (const section of sections())
    if (named(section) === door && open(section) !== wanted) heading(section).click();
};
const mend = () => {
  document.querySelector('[data-testid="stSidebarNavItems"]')?.setAttribute("role", "presentation");
  for (const section of sections()) {
    section.setAttribute("role", "group");
    section.setAttribute("aria-label", named(section));
    heading(section).setAttribute("role", "button");
    heading(section).setAttribute("aria-label", named(section));
    heading(section).tabIndex = 0;
    heading(section).setAttribute("aria-expanded", open(section));
    heading(section).toggleAttribute("data-here", named(section) === here);
    for (const entry of section.querySelectorAll("li")) entry.setAttribute("role", "none");
  }
};
let here;
export default function ({ data }) {
  if (data.door !== here) {
    if (here !== undefined) turn(here, false);
    here = data.door;
    turn(here, true);
  }
  const press = (event) => {
    if (!event.target.matches?.('[data-testid="stNavSectionHeader"]') || !["Enter", " "].includes(event.key)) return;
    event.preventDefault();
    event.target.click();
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
  document.addEventListener("keydown", press);
  const watcher = new MutationObserver(mend);
  watcher.observe(document.body, { childList: true, subtree: true });
  return () => {
    watcher.disconnect();
    themes.disconnect();
    document.removeEventListener("click", close);
    document.removeEventListener("keydown", press);
  };
}
