"""What can be set by hand in the living block (:mod:`peft_lab.living`)."""
