"""A sweep of short trainings on the two live models, made by ``tools/sweep.py`` and shipped: what a learning rate, a
rank, targets and a batch do, measured here.

``points`` reads it, ``curves`` puts the trainings that differ in their rate together and finds each one's best rate,
``groups`` says how sure a figure over seeds is, ``landscape`` picks what a picture shows.
"""

from __future__ import annotations
