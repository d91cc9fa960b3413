"""Interview practice: questions whose answers are computed, flash cards, mock interviews, predictions."""
