"""Debug clinic: failures that were really run, and a diagnosis of one's own."""

from peft_lab.ui.clinic import clinic_page

clinic_page()
