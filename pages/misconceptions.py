"""Misconceptions: common beliefs and the experiments that settle them."""

from peft_lab.ui.misconceptions import misconceptions_page

misconceptions_page()
