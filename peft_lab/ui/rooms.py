"""Room that is kept for what comes later than what stands under it, as CSS: a page does not jump while it is drawn.

A control's script comes after the page; until then a grey bar stands for it, lower than most controls. What is drawn
into a place above others (a tree above its form, a card above its filters) has its height kept in the same way.
"""

from __future__ import annotations

MOST_LINES = 30  # of code in a container ``lines-<how many>-narrow-<how many on a phone>-...``


def _room(mark: str) -> str:
    return "\n".join(
        f'[class*="{mark}{lines}-"] {{ min-height: calc({lines} * 1.4rem + 2rem); }}'
        for lines in range(1, MOST_LINES + 1)
    )


MOST_BARS = 9  # in a container ``bars-<how many>-...``, drawn close
_BARS = "\n".join(
    f'[class*="st-key-bars-{bars}-"] {{ min-height: {1.6 * (bars + 1):g}rem; }}'
    for bars in range(1, MOST_BARS + 1)
)
_LINES = _room("st-key-lines-") + f"\n@media (max-width: 640px) {{ {_room('-narrow-')} }}"

#: First into a container that is filled later: one with nothing in it has no place in the browser, and no room.
KEPT = '<span class="kept"></span>'

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
CSS = (
    f"""
{_LINES}
{_BARS}"""
    """
/* the same on every page: one that makes it lower would move what is in it */
.stApp [data-testid="stHeader"] { height: 2.5rem; min-height: 0; }
/* a control with its label, a button, a link, a row of small ones */
[data-testid="stElementContainer"][class*="st-key-"]:has([data-testid="stSkeleton"]) { min-height: 68px; }
.st-key-knobs [data-testid="stElementContainer"][class*="st-key-"]:not([class*="-reset"],
  :has([data-testid="stCheckbox"])) { min-height: 68px; }
.st-key-knobs [data-testid="stElementContainer"][class*="modules-"]:not([class*="other"]) { min-height: 164px; }
.st-key-knobs [data-testid="stElementContainer"][class*="init_text"] { min-height: 122px; }
.stApp [data-testid="stElementContainer"]:is([class*="-reset"], [class*="st-key-typical-"], .st-key-go-on,
  .st-key-plan-stop) { min-height: 40px; }
.stApp [data-testid="stElementContainer"].st-key-mending { min-height: 0; max-height: 0; overflow: hidden; }
.stApp [data-testid="stElementContainer"].st-key-train-now { min-height: 52px; }
.st-key-tour-stops { gap: 0; }
.st-key-tour-stops > * { height: 36px; min-height: 0 !important; margin: 0 !important; flex: none; }
.st-key-typical { min-height: 96px; align-content: start; }
@media (min-width: 1280px) { .st-key-typical { min-height: 40px; } }
/* formulas, which are typeset when their script has come */
.st-key-idea-formula { min-height: 6.5rem; justify-content: center; }
/* fields that share out a row; the answer is simulated, and the tree stands under it */
:is(.st-key-situation-fields, .st-key-limits-fields) > * { flex-grow: 1; }
/* a last row of few numbers is no wider than the rows above */
@media (min-width: 641px) {
  .st-key-situation-fields > :has([data-testid="stNumberInput"]), .st-key-limits-fields > :last-child {
    max-width: 13rem; }
}
.st-key-choose-answer:not(:has(h2)) { min-height: 17rem; }
.st-key-choose-tree { min-height: 37.5rem; }
@media (min-width: 1000px) { .st-key-choose-tree { min-height: 56rem; } }
/* on a tablet two beside each other, so that no name of a model and no label is cut */
@media (min-width: 641px) and (max-width: 900px) {
  :is(.st-key-memory-controls, .st-key-claim-controls) [data-testid="stHorizontalBlock"] { flex-wrap: wrap; }
  :is(.st-key-memory-controls, .st-key-claim-controls) [data-testid="stColumn"] { min-width: calc(50% - 1rem); }
}
/* a figure is not cut: where three are too wide for a row the third goes below */
.st-key-plan-figures [data-testid="stHorizontalBlock"] { flex-wrap: wrap; }
.st-key-plan-figures [data-testid="stColumn"] { min-width: 12rem; }
/* what mends a control may stand in half a column, and is not cut there */
[class*="st-key-plan-way-"] button * { white-space: normal; overflow: visible; text-align: left; }
/* a card, until its form is there or there is none, and the tab that it stands in */
.st-key-practice-body:not(:has([role="tabpanel"] [data-testid="stElementContainer"])) { min-height: 44rem; }
.st-key-practice-table:not(:has([data-testid="stFormSubmitButton"], [data-testid="stAlert"])) { min-height: 33rem; }
[data-testid="stElementContainer"]:has(> [data-testid="stHtml"] > .kept) { display: none; }
/* bars and table of all methods */
.st-key-memory-figures { min-height: 43rem; }
[class*="st-key-curve-room-"] { min-height: 240px; }
@media (max-width: 640px) {
  .st-key-choose-answer:not(:has(h2)) { min-height: 38rem; }
  .st-key-practice-table:not(:has([data-testid="stAlert"])) { min-height: 33rem; }
  .st-key-tour-stops > * { height: 48px; }
  .stApp [data-testid="stElementContainer"].st-key-go-on { min-height: 44px; }
  [data-testid="stElementContainer"][class*="st-key-typical-"] { width: 100% !important; min-width: 100%;
    min-height: 44px !important; }
}
"""
)
