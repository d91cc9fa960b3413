"""A training on one or many GPUs, planned: what fits, how long it takes, what it costs, and the files that do it.

``wanted`` is what is asked, ``lengths`` reads the rows' lengths from a file, ``ranking`` makes and ranks the plans,
``verdict`` names what a step waits for; ``files`` writes a plan down, with the functions of ``spread``, which scripts
hold as their source.
"""

from __future__ import annotations
