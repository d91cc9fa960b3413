"""The Plan page: its form, the ranked plans, one of them in full, and the sharing of a step between ranks."""
