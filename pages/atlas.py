"""Atlas: every type that PEFT knows, side by side."""

from peft_lab.ui.atlas.page import atlas_page

atlas_page()
