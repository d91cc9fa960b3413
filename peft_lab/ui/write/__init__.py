"""The page Write it: the task, the editor, and what the judge found."""
