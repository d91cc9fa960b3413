
export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".thumb");
  host.ending?.();
  const forget = () => {
    if (data.anchor && location.hash === `#${data.anchor}`)
      history.replaceState(history.state, "", location.pathname + location.search);
  };
  addEventListener("hashchange", forget);
  host.ending = () => removeEventListener("hashchange", forget);
  draw(host, data);
  return host.ending;
}
const draw = (host, data) => {
  if (host.drawn === data.svg) return;
  host.drawn = data.svg;
  host.innerHTML = data.svg;
  for (const part of host.querySelectorAll("[tabindex]"))
    for (const name of ["tabindex", "role", "aria-pressed", "aria-label"]) part.removeAttribute(name);
};
