
export default function ({ parentElement }) {
  const host = parentElement.querySelector(".turning");
  const KEYS = { ArrowRight: "next", PageDown: "next", ArrowLeft: "back", PageUp: "back" };
  const OWN = 'input, textarea, select, [contenteditable="true"], [role="slider"], [role="tab"], [role="radio"], ' +
    '[role="combobox"], [role="listbox"], [role="option"], [role="grid"], [role="dialog"]';
  const turn = (event) => {
    const to = KEYS[event.key], leaves = event.key === "Escape";
    if (!(to || leaves) || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (event.composedPath().some((one) => one.matches?.(OWN))) return;
    const pressed = document.querySelector(leaves ? ".st-key-unproject button"
      : `.st-key-turn-${to} a, .st-key-turn-page-${to} a`);
    if (!pressed) return;
    event.preventDefault();
    pressed.click();
  };
  host.ending?.();
  document.addEventListener("keydown", turn);
  host.ending = () => document.removeEventListener("keydown", turn);
  return host.ending;
}
