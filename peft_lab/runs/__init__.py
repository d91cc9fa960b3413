"""Runs, from request to record: the request (``spec``), its folder (``store``, ``events``, ``view``), the
order of runs (``queue``, ``waiting``), limits (``admission``, ``allowance``), training (``training``,
``course``), and experiment trackers (:mod:`peft_lab.runs.tracking`)."""
