"""Home."""

from peft_lab.ui.home import home_page

home_page()
