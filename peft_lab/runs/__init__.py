"""A run from its request to its record: ``spec``, ``store``, ``events``, ``view``; who is next (``queue``,
``waiting``), what
is admitted (``admission``, ``allowance``), how it trains (``training``, ``course``), and other trackers
(:mod:`peft_lab.runs.tracking`).
"""
