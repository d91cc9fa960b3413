"""How the cards of the claims lie on the page."""

from __future__ import annotations

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
# Closed ones lie side by side, an open one takes the whole width. Of the page only the lists of cards are called so.
CSS = """
[class*="st-key-claims-"] { display: grid; gap: 0.6rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
[class*="st-key-claims-"] > * { width: auto !important; min-width: 0; }
[class*="st-key-claims-"] > :has(details[open]) { grid-column: 1 / -1; }
[class*="st-key-claims-"] [data-testid="stExpander"] summary { min-height: 44px; }
"""
