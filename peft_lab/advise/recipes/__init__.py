"""Settings for a real job: what published work used, for which models and tasks, and how far the sources agree.

``job``: what is to be trained, and how one source speaks. ``rates``, ``sizes`` and ``runs``: the rules, each a
function with its citation and range. ``recipe``: combines them. ``replications``: what a sweep on this lab's small
models showed about each rule.
"""

from __future__ import annotations
