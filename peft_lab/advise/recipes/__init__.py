"""Settings for a real job: what published work used, for which models and tasks, and how far the sources agree.

``job`` says what is to be trained, ``rules`` how one source speaks; ``rates``, ``sizes`` and ``runs`` hold the rules,
each a function with its citation and its range; ``recipe`` puts together what they say; ``replications`` says what a
sweep on this lab's small models saw of a rule.
"""

from __future__ import annotations
