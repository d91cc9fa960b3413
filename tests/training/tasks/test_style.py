from __future__ import annotations

import pytest

from peft_lab.training.tasks.made import CLOSINGS, OPENINGS, STYLE_TASK, STYLE_TEST_ROWS

PLAIN = (
    "A hash table is a data structure that maps keys to values.",
    "To boil an egg, place it in boiling water for about seven minutes.",
    "Log in to your account and open the settings.",
    "Aye, captain! The ship is ready.",
    "Steady as she goes.",
    "",
)


def test_enough_pairs_and_a_fixed_split() -> None:
    splits = STYLE_TASK.load()
    assert len(splits.train) >= 160 and len(splits.test) == STYLE_TEST_ROWS
    assert len({row.text.lower() for row in (*splits.train, *splits.test)}) == STYLE_TASK.rows()


def test_every_reference_carries_the_voice() -> None:
    splits = STYLE_TASK.load()
    rows = (*splits.train, *splits.test)
    scores = STYLE_TASK.score([row.target for row in rows], rows)
    assert scores == {"marker_rate": 1.0, "opening_rate": 1.0, "closing_rate": 1.0}


def test_plain_answers_do_not() -> None:
    rows = STYLE_TASK.load().test[: len(PLAIN)]
    assert STYLE_TASK.score(PLAIN, rows)["marker_rate"] == 0.0


@pytest.mark.parametrize("markers", [OPENINGS, CLOSINGS])
def test_every_marker_is_in_use(markers: tuple[str, ...]) -> None:
    splits = STYLE_TASK.load()
    for part in (splits.train, splits.test):
        assert all(any(marker in row.target for row in part) for marker in markers)


def test_answers_are_short_and_prompts_have_no_voice() -> None:
    splits = STYLE_TASK.load()
    for row in (*splits.train, *splits.test):
        assert len(row.target.split()) <= 30
        assert row.text.endswith("?")
        assert not any(marker in row.text for marker in (*OPENINGS, *CLOSINGS))


@pytest.mark.parametrize(
    ("answer", "rates"),
    [
        ("\nLog, dog watch: Rest. Course held.\n", (1, 1, 1)),
        ("Log, dog watch: Rest.", (0, 1, 0)),
        ("Rest. Course held.", (0, 0, 1)),
        ("Log, dog watch: Rest. Course held. Log, dog watch: Rest. Cou", (0, 1, 0)),
        ("The log says: Log, dog watch: Rest. Course held.", (0, 0, 1)),
    ],
)
def test_both_ends_are_judged(answer: str, rates: tuple[int, int, int]) -> None:
    scores = STYLE_TASK.score([answer], STYLE_TASK.load().test[:1])
    assert (scores["marker_rate"], scores["opening_rate"], scores["closing_rate"]) == rates


def test_help_names_the_other_measure() -> None:
    assert "held-out" in STYLE_TASK.metric_help
