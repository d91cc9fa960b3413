"""Settings for a real job: what published work used, for which models and tasks, and how far the sources agree.

``job``: what is to be trained. ``rules``: what each source says for which jobs, read from ``content/rules``.
``recipe``: combines them. ``replications``: what a sweep on this lab's small models showed about each rule.
"""

from __future__ import annotations
