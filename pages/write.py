"""Write it: exercises in plain torch, with a judge that runs them."""

from peft_lab.ui.write.page import write_page

write_page()
