"""One campaign a file; a new one is listed here."""

#: The cheapest first.
CAMPAIGNS = (
    "cuts",
    "knobs",
    "uploads",
    "corrupt",
    "configs",
    "disk",
    "kills",
    "sweeps",
    "addresses",
    "folders",
    "flips",
    "denied",
    "quotas",
    "clocks",
    "browsers",
    "forged",
    "answers",
    "stops",
    "comparisons",
)
