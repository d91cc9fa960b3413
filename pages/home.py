"""Home."""

from peft_lab.ui.home.page import home_page

home_page()
