"""The Plan page: its form, the ranked plans, one of them in full, and how ranks share a step."""
