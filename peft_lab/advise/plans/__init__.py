"""Plans for training on one or more GPUs: what fits, how long it takes, what it costs, and the files that run it.

``wanted``: the request. ``lengths``: row lengths from a file. ``ranking``: makes and ranks plans. ``steps``:
times them. ``configs`` and ``script``: decide what its files hold, which are templates of ``takeaway``.
"""

from __future__ import annotations
