"""Ship it: where an adapter runs, what has to change first, and whether it still gives the same answers."""

from peft_lab.ui.ship.page import ship_page

ship_page()
