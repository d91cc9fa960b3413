"""Interview practice: flash cards, the mock interview, and predictions that an experiment settles."""
