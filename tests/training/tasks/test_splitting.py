from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from peft_lab.training.tasks.base import Row, hold_out, in_fair_order, same_text

ROWS = st.lists(st.builds(Row, st.text(alphabet="ab AB!.", min_size=1), st.sampled_from("xy")), max_size=40)


@given(ROWS, st.integers(0, 20), st.randoms(use_true_random=False))
def test_split_ignores_the_order_of_the_file(rows: list[Row], texts: int, rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    assert hold_out(rows, texts) == hold_out(shuffled, texts)


@given(ROWS, st.integers(0, 20))
def test_repeated_texts_stay_together_and_nothing_is_lost(rows: list[Row], texts: int) -> None:
    splits = hold_out(rows, texts)
    train, test = ({same_text(row.text) for row in part} for part in (splits.train, splits.test))
    assert not train & test
    assert len(test) == min(texts, len(train | test))
    assert in_fair_order((*splits.train, *splits.test)) == in_fair_order(rows)


def test_what_is_the_same_text() -> None:
    assert same_text("Great  film!") == same_text("great film")
    assert same_text(":)") != same_text(":(")
    assert same_text("great film") != same_text("great films")
