"""The page Atlas: every type that PEFT knows, by family, with what it can do and what it costs."""
