
export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".pointer");
  const names = new RegExp(`^st-key-[a-z_]+(-\\d+)?-${data.at}(-[a-z0-9_-]*)?$`);
  const MARK = "tour-points-here";
  const find = () => [...document.querySelectorAll('[data-testid="stMain"] [class*="st-key-"]')]
    .find((one) => [...one.classList].some((name) => names.test(name)) && one.offsetHeight > 8);
  clearInterval(host.looking);
  host.looking = setInterval(() => {
    const found = find();
    if (found) {
      for (const old of document.querySelectorAll(`.${MARK}`)) if (old !== found) old.classList.remove(MARK);
      found.classList.add(MARK);
      if (host.seen !== data.stop) {
        host.seen = data.stop;
        const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
        const box = found.getBoundingClientRect();
        if (box.top < 70 || box.bottom > innerHeight - 90)
          found.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
      }
    }
  }, 400); // again and again: a control that is drawn anew loses the mark
  return () => {
    clearInterval(host.looking);
    for (const old of document.querySelectorAll(`.${MARK}`)) old.classList.remove(MARK);
  };
}
