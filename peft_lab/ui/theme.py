"""Colours and the little CSS that Streamlit's theme options do not reach."""

from __future__ import annotations

from peft_lab.core import palette

TRAINABLE = palette.CHART_TRAINED
FROZEN = palette.CHART_AREA_FROZEN
QUANTISED = palette.CHART_QUANTISED
MEMORY = palette.MEMORY
QUIET = palette.CHART_QUIET
SERIES = palette.SERIES
BAND_OPACITY = 0.14
FINE_TICKS = "D2"  # Plotly's word for ticks at ones, twos and fives of a logarithmic axis
PERCENT_TICKS = ".0%"
FINE_PERCENT_TICKS = ".1%"

_COLOURS = palette.variables(
    peft_trained=palette.TRAINED, peft_accent=palette.ACCENT, peft_ink=palette.INK, peft_page=palette.PAGE,
    peft_soft=palette.SOFT, peft_frame=palette.FRAME, peft_measured=palette.MEASURED, peft_counted=palette.COUNTED,
    peft_simulated=palette.SIMULATED, peft_cited=palette.CITED, peft_link=palette.LINK,
    peft_area=palette.FROZEN, peft_area_place=palette.AREA_PLACE,
)  # fmt: skip

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
CSS = (
    f"""
:root {{ {_COLOURS} --peft-source-tint: {palette.SOURCE_TINT}%; }}
/* it stops the drawing of a page, and stands a hand's breadth from the one that stops a training */
[data-testid="stStatusWidget"]:has([data-testid="stStatusWidgetRunningIcon"]) button {{ display: none; }}
/* a chart's colours know of no theme, and light areas as large as these glare in the dark one */
.treemaplayer .surface {{ stroke: var(--peft-page) !important; }}
.treemaplayer .surface[style*="{palette.drawn(palette.CHART_AREA_FROZEN)}"] {{
  fill: var(--peft-area) !important; }}
.treemaplayer .surface[style*="{palette.drawn(palette.CHART_AREA_PLACE)}"] {{
  fill: var(--peft-area-place) !important; }}
.treemaplayer .slicetext[style*="{palette.drawn(palette.CHART_AREA_INK)}"] {{
  fill: var(--peft-ink) !important; }}
"""
    """.block-container { padding-top: 2.2rem; padding-bottom: 4rem; max-width: 1320px; }
[data-testid="stMetricValue"] { font-variant-numeric: tabular-nums; }
/* Streamlit writes a chart's axes in a grey of 3.8 to 1 on white */
.js-plotly-plot :is(.xtick, .ytick) text, .js-plotly-plot :is(.xtitle, .ytitle) { fill: var(--peft-soft) !important; }
[data-testid="stMetric"] { padding: 0; }
/* as the bar of a path: it leads there, wherever on it one presses, also from the page that it names */
.st-key-shown-to-class { border-left: 4px solid var(--peft-accent); border-radius: 6px;
  background: color-mix(in srgb, var(--peft-accent) 7%, var(--peft-page)); }
.st-key-shown-to-class [data-testid="stPageLink-NavLink"] { min-height: 40px; width: 100%; }
.st-key-shown-to-class [data-testid="stPageLink-NavLink"]:not(:hover) { background: none; }
.st-key-shown-to-class [data-testid="stPageLink-NavLink"] p { font-weight: 600; }
.st-key-question p { font-size: 1.15rem; line-height: 1.5; }
.st-key-headline [data-testid="stVerticalBlock"] { gap: 0.25rem; }
/* as high as a figure with a note of two lines: nothing below moves when the figure comes */
.st-key-headline [data-testid="stColumn"] [data-testid="stLayoutWrapper"] > div { min-height: 9.5rem; }
/* as high with Stop and the bar as without: the curve below stays where it is when a run ends */
[class*="-standing"] { min-height: 4.5rem; }
table.figures { border-collapse: collapse; width: 100%; font-size: 0.92rem; }
table.figures th { text-align: left; font-weight: 600; padding: 0.35rem 0.6rem;
  border-bottom: 1px solid color-mix(in srgb, currentColor 22%, transparent); }
table.figures td { padding: 0.35rem 0.6rem; vertical-align: top;
  border-bottom: 1px solid color-mix(in srgb, currentColor 10%, transparent); }
table.figures .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
table.figures a { color: var(--peft-link); }
table.figures code { font-size: 0.86em; overflow-wrap: anywhere; }
table.compare th[scope="row"] {
  white-space: nowrap; border-bottom: 1px solid color-mix(in srgb, currentColor 10%, transparent);
}
table.compare th.n { vertical-align: bottom; }
table.compare tr.front th { box-shadow: inset 3px 0 0 var(--peft-trained); }
table.compare .why, table.compare .note { font-weight: 400; opacity: 0.8; }
table.compare .why div { max-width: min(42rem, 62vw); }
table.compare { font-size: 0.86rem; }
table.compare td, table.compare th { padding-inline: 0.3rem; }
table.compare .head { display: none; }
.source { font-size: 0.8em; font-weight: 400; padding: 0 0.35em; border-radius: 0.35em;
  background: color-mix(in srgb, currentColor var(--peft-source-tint), transparent); }
.source.measured { color: var(--peft-measured); }
.source.counted { color: var(--peft-counted); }
.source.simulated { color: var(--peft-simulated); }
.source.cited { color: var(--peft-cited); }
.figures-scroll { overflow-x: auto; }
/* what stands above the title must not lie under the app's header */
.stApp .block-container:has(.st-key-tour-bar, .st-key-locked-note, .st-key-shown-to-class) { padding-top: 4.2rem; }
.st-key-tour-bar { border-left: 4px solid var(--peft-accent); padding: 0 0.5rem 0 0.75rem; height: 48px;
  background: color-mix(in srgb, var(--peft-accent) 7%, var(--peft-page)); border-radius: 6px;
  justify-content: center; gap: 0; }
.st-key-tour-bar > .st-key-tour-pointer { display: none; }
/* it stays in view, with what it tells to do; what else stays in view stands under it */
.stApp:has(.st-key-tour-bar) { --peft-bar: 52px; --peft-over: calc(2.5rem + 56px); }
[data-testid="stLayoutWrapper"]:has(> .st-key-tour-bar) { position: sticky; top: 2.5rem; z-index: 5; }
.st-key-tour-bar { box-shadow: 0 -2.5rem 0 var(--peft-page), 0 4px 0 var(--peft-page); }
.st-key-tour-bar p { font-size: 0.88rem; margin: 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.st-key-tour-bar [data-testid="stMarkdownContainer"] { margin: 0; }
.st-key-tour-way { flex-wrap: nowrap !important; min-width: 0; }
.st-key-tour-way > * { flex: none; }
.st-key-tour-way > :has(> .st-key-tour-now) { flex: 1 1 0; min-width: 0; }
.st-key-tour-now p { white-space: normal; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  font-size: 0.84rem; line-height: 1.3; }
.tour-points-here { outline: 2px solid var(--peft-accent); outline-offset: 1px; border-radius: 6px; }
.st-key-tour-stops a p, .st-key-tour-stops a span { white-space: normal; overflow: visible; }
/* a long formula breaks between its terms: one that scrolls is cut, and cannot be reached by keyboard */
.katex-display > .katex { white-space: normal !important; line-height: 1.5; }
.katex-display { padding: 3px; }
/* links to headings: a stop of the Tab key each, and no address that the app itself would write */
[data-testid="stHeaderActionElements"] { display: none !important; }
[data-testid="stRadioOption"]:has(input:focus-visible) { outline: 2px solid var(--peft-accent); outline-offset: 2px;
  border-radius: 4px; }
[data-testid="stPageLink-NavLink"]:focus-visible { outline: 2px solid var(--peft-accent); outline-offset: 1px; }
/* Streamlit pales the label of a locked control to a contrast of 2.6 */
[data-testid="stWidgetLabel"] p { color: var(--peft-ink); }
[data-testid^="stBaseButton-primary"], [data-testid^="stBaseButton-primary"]:hover,
[data-testid="stMultiSelectTagsContainer"] [data-tag] { color: var(--peft-page); }
[data-testid="stSidebarNavLink"]:focus-visible { outline: 2px solid var(--peft-accent); outline-offset: -2px; }
/* a circle that is not chosen has to be seen */
[data-testid="stRadioOption"] > div > div:first-child { box-shadow: 0 0 0 1px var(--peft-ink); border-radius: 50%; }
/* Streamlit cuts a checkbox's label to one line; a point to tick is a whole sentence */
[data-testid="stCheckbox"] label :is(div, p) { white-space: normal; overflow: visible; text-overflow: clip; }
/* two fields beside each other: what stands in them needs the room of their plus and minus */
.st-key-situation [data-testid^="stNumberInputStep"] { display: none; }
[class*="st-key-narrow-"] { display: none; }
/* a code for the phones of a whole room: as large as fits the screen */
.st-key-qr img { width: auto !important; max-width: min(100%, 65vh) !important; height: auto; }
/* the links of a table begin where its head does, and are as large as what stands beside them */
.st-key-methods [data-testid="stPageLink-NavLink"] { padding: 0.2rem 0 0; }
.st-key-methods [data-testid="stPageLink-NavLink"] p { font-size: 1rem; line-height: 1.6; }
/* a choice of three words stays on one line in the narrow column of knobs */
.st-key-knobs [data-variant="segmented_control"] { padding-inline: 0.3rem; }
.st-key-knobs [data-variant="segmented_control"] p { font-size: 0.8rem; }
@media (max-width: 640px) {
  [data-testid="stMain"] { overflow-x: hidden; }
  .st-key-methods-head { display: none; }
  /* under a finger: what is pressed or chosen is at least 44 pixels high */
  [data-testid="stMain"] :is([data-testid^="stBaseButton"], [data-testid="stButtonGroup"] button, summary,
    [data-testid="stPageLink-NavLink"],
    [data-testid="stRadio"] label, [data-testid="stCheckbox"] label) { min-height: 44px; }
  [data-testid="stSidebarNavLink"] { min-height: 44px; }
  [data-testid="stExpandSidebarButton"] { min-width: 44px; min-height: 44px; }
  /* under 16 pixels a phone's browser zooms into a field that is written in */
  [data-testid="stMain"] :is(input, textarea) { font-size: 16px !important; }
  [data-testid="stMain"] [data-testid="stCheckbox"] label { align-items: center; }
  [data-testid="stMain"] [data-testid="stRadio"] label { align-items: center; padding-block: 0.6rem; }
  .st-key-tour-stops a { padding-block: 0 !important; }
  .st-key-tour-stops a :is(p, span) { line-height: 1.35; }
  /* two lines: where one is and the way on, then what to do */
  .stApp:has(.st-key-tour-bar) { --peft-bar: 92px; --peft-over: calc(2.5rem + 96px); }
  .st-key-tour-bar { min-height: 88px; justify-content: flex-start; }
  .st-key-tour-way { flex-wrap: wrap !important; gap: 0 0.5rem; }
  .st-key-tour-way > * { order: 1; }
  .st-key-tour-way > :first-child { flex: 1 1 0; min-width: 0; }
  .st-key-tour-way > :has(> .st-key-tour-now) { order: 2; flex: 1 1 70%; }
  .st-key-tour-way > :has(> .st-key-tour-now) + * { order: 2; }
  /* an icon is seen, and its word heard */
  .st-key-tour-bar :is(.st-key-tour-words, .st-key-turn-back) p { position: absolute; width: 1px; height: 1px;
    overflow: hidden; clip-path: inset(50%); }
  .st-key-tour-now p { font-size: 0.82rem; }
  /* for a room with a screen, and its way back is at the foot of a long page */
  .st-key-project { display: none; }
  [class*="st-key-narrow-"] { display: flex; }
  .st-key-methods [data-testid="stHorizontalBlock"] { gap: 0.25rem 1rem; }
  .st-key-methods [data-testid="stColumn"]:nth-child(n+3) { min-width: 0; flex: 1 1 40%; }
  .block-container { padding-left: 1rem; padding-right: 1rem; }
  /* the four figures two by two: the knobs are then in view */
  .st-key-headline [data-testid="stHorizontalBlock"] { gap: 0.5rem; }
  .st-key-headline [data-testid="stColumn"] { min-width: 0; flex: 1 1 calc(50% - 0.25rem); }
  .st-key-headline [data-testid="stColumn"] [data-testid="stLayoutWrapper"] > div {
    padding: 0.6rem; min-height: 8.8rem; }
  .st-key-headline [data-testid="stMetricLabel"] p { font-size: 0.78rem; }
  [class*="-standing"] { min-height: 7.5rem; }
  [class*="-standing"] [data-testid="stHorizontalBlock"] { flex-wrap: nowrap; }
  [class*="-standing"] [data-testid="stColumn"] { min-width: 0; }
  [class*="-standing"] [data-testid="stColumn"]:last-child { flex: 0 0 6.5rem; }
  /* all tabs in view, the open one too: Streamlit lets them scroll away sideways */
  [data-testid="stTabs"] [role="tablist"] { flex-wrap: wrap; row-gap: 0; }
  /* a method's row as a card: its name, then its figures three in a line, each under its heading */
  table.compare, table.compare tbody { display: block; }
  table.compare thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table.compare tr { display: grid; grid-template-columns: repeat(3, 1fr); padding: 0.3rem 0 0.5rem;
    border-bottom: 1px solid color-mix(in srgb, currentColor 22%, transparent); }
  table.compare th[scope="row"], table.compare td.why { grid-column: 1 / -1; border: 0; white-space: normal; }
  table.compare td.n { border: 0; text-align: left; white-space: normal; }
  table.compare .head { display: block; font-size: 0.85em; line-height: 1.5; }
  table.compare .why div { max-width: none; }
  h1 { font-size: 1.8rem !important; } }
/* beside a long value a setting's name is not broken between letters */
table.figures td:first-child:nth-last-child(2):has(> code) { min-width: 9.5rem; }
/* a table folds where it is, not where the window is, narrow */
.figures-scroll { container-type: inline-size; }
@container (max-width: 600px) {
  table.figures.fold, table.figures.fold tbody { display: block; }
  table.figures.fold thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table.figures.fold tr { display: grid; grid-template-columns: repeat(3, auto); justify-content: space-between;
    padding: 0.3rem 0; border-bottom: 1px solid color-mix(in srgb, currentColor 10%, transparent); }
  table.figures.fold td { border: 0; padding: 0.1rem 0.6rem; text-align: left; overflow-wrap: anywhere; }
  table.figures.fold td:first-child, table.figures.fold td:nth-child(n+5) { grid-column: 1 / -1; }
  table.figures.fold td:empty { display: none; }
  :is(.st-key-plans, .st-key-what-to-buy) table.figures.fold tr { grid-template-columns: repeat(3, 1fr); }
  .st-key-plans table.figures.fold td:nth-child(n+5) { grid-column: auto; }
  table.figures.fold td:nth-child(n+2)::before { content: attr(data-label); display: block; font-size: 0.85em;
    opacity: 0.75; } }
"""
)

# For a room: larger type, in charts too, and nothing beside the page itself.
PROJECTOR = """
<style>
html { font-size: 21px !important; }
[data-testid="stSidebar"], [data-testid="stHeader"], [data-testid="stExpandSidebarButton"] { display: none !important; }
.block-container { max-width: 100% !important; padding-top: 1.2rem !important; }
.js-plotly-plot text, #js-plotly-tester text { font-size: 16px !important; }
</style>
"""


# ----------------------------------------
# Room that is kept for what comes later than what stands under it, as CSS: a page does not jump while it is drawn.
#
# A control's script comes after the page; until then a grey bar stands for it, lower than most controls. What is
# drawn into a place above others (a tree above its form, a card above its filters) has its height kept in the same
# way.


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
KEPT_ROOM = '<span class="kept"></span>'

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
ROOM_CSS = (
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
