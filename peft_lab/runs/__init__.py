"""Training runs: what to train (spec), where it is kept (store), what happened (events), who is next (queue)."""
