"""For teachers: a path of pages with fixed settings, as a link or a file."""

from peft_lab.ui.tour.teach import teach_page

teach_page()
