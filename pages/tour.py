"""Guided tour: a newcomer's path, and paths that teachers have made."""

from peft_lab.ui.tour.page import tour_page

tour_page()
