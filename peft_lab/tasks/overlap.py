"""How much of a free answer is in the expected one."""

from __future__ import annotations

from collections import Counter


def word_f1(said: str, target: str) -> float:
    """The harmonic mean of two shares: of the answer's words that stand in the target, and of the target's that stand
    in the answer; from 0 to 1, 1 for two texts without words (SQuAD's F1, Rajpurkar et al. 2016, arXiv 1606.05250).

    >>> word_f1("the cat sat", "a cat sat down")  # 2 of 3 words, and 2 of 4
    0.5714285714285714
    """
    mine, its = Counter(said.lower().split()), Counter(target.lower().split())
    if not mine and not its:
        return 1.0
    return 2 * (mine & its).total() / (mine.total() + its.total())
