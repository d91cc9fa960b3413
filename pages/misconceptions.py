"""Misconceptions: common beliefs and the experiments that settle them."""

from peft_lab.ui.practice.page import misconceptions_page

misconceptions_page()
