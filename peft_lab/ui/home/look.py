"""Home's layout as CSS: words and button beside the block, three doors, the gallery as a grid of cards."""

from __future__ import annotations

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
CSS = """
.stApp:has(.st-key-home-first) [data-testid="stHeader"] { background: transparent; height: 2.5rem; min-height: 0;
  pointer-events: none; }
.stApp:has(.st-key-home-first) [data-testid="stHeader"] * { pointer-events: auto; }
.block-container:has(.st-key-home-first) { padding: 1.6rem 1.5rem 3rem; max-width: 1500px; }
/* as high as the window while the block is still to come: what lies under it is out of sight and stays there */
.st-key-home-first { display: grid; grid-template-columns: minmax(16rem, 5fr) minmax(0, 9fr); gap: 1.5rem 1.75rem;
  grid-template-areas: "words block" "doors block"; grid-template-rows: auto 1fr; align-items: start;
  min-height: min(100vh, 1400px); }
.st-key-home-first > :has(> .st-key-home-block) { grid-area: block; }
.st-key-home-first > *, .st-key-gallery > * { width: auto !important; min-width: 0; }
.st-key-home-doors > * { width: 100% !important; min-width: 0; }
.st-key-home-words { padding-top: clamp(0rem, 5vh, 3rem); }
.st-key-home-words h1 { font-size: 2.75rem !important; line-height: 1.12; padding: 0; }
.st-key-home-words [data-testid="stHeading"] { padding-bottom: 1.25rem; }
.st-key-home-words [data-testid^="stBaseButton-primary"] { min-height: 52px; }
.st-key-home-words [data-testid^="stBaseButton-primary"] p { font-size: 1.05rem; font-weight: 600; }
.st-key-home-block .stBidiComponent { max-width: 600px; margin: 0 auto; width: 100%; }
.st-key-home-block { border-radius: 12px; padding: 0.8rem 1rem; gap: 0.4rem; }
.st-key-home-block h4 { padding: 0; }
.st-key-home-block [data-testid="stMarkdownContainer"] { margin-bottom: 0; }
.st-key-home-doors { gap: 10px; }
[class*="st-key-door-"], [class*="st-key-gallery-"] { border-radius: 12px; padding: 0.7rem 1rem; height: 100%; }
:is([class*="st-key-door-"], [class*="st-key-gallery-"]) [data-testid="stPageLink-NavLink"] { padding-inline: 0; }
:is([class*="st-key-door-"], [class*="st-key-gallery-"]) [data-testid="stPageLink-NavLink"] p { font-size: 1.05rem; }
.st-key-gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); gap: 14px; }
/* eight cards in two rows that are full */
@media (min-width: 1500px) { .st-key-gallery { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
@media (max-width: 900px) {
  .st-key-home-first { grid-template-columns: minmax(0, 1fr); grid-template-areas: "words" "block" "doors";
    grid-template-rows: auto minmax(min(100vh, 1000px), auto) auto; }
  .st-key-home-words { padding-top: 0; }
  .st-key-home-words h1 { font-size: 2rem !important; }
}
@media (max-width: 768px) {
  .block-container:has(.st-key-home-first) { padding: 3rem 1rem; }
  .stApp:has(.st-key-home-first) [data-testid="stHeader"] { background: var(--peft-page); }
}
"""
