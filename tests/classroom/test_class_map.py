"""One class, one landscape: squares given, guessed and measured once each, whoever presses at the same time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from peft_lab.classroom import joining, places
from peft_lab.core.asking import Asker, acting_for
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.runs import owners, store
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies import class_map as squares
from peft_lab.studies.class_map import (
    RATES,
    ROWS,
    SQUARES,
    Seen,
    Square,
    look,
    look_at_all,
    recordings,
    summary,
)
from peft_lab.ui.class_map import map_html
from tests.classroom.conftest import joined
from tests.conftest import link

MANY = len(SQUARES)


@pytest.fixture
def everybody(empty_class: Path) -> Iterator[list[Asker]]:
    yield [joined(f"Learner {number}") for number in range(MANY)]


def together(calls: list[Callable[[], object]]) -> list[object]:
    with ThreadPoolExecutor(8) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def seen(who: Asker) -> Seen:
    return look(who.owner)


def result(at: int) -> int | None:
    """What the map shows at a place."""
    return next(
        (one.square.right for one in look_at_all() if one.square.at == at and one.standing == "done"), None
    )


def trained(who: Asker, right: int | None) -> Run:
    """A learner's run, waiting in the queue, or ended with so many exact matches."""
    square = squares.stored_map().squares[who.owner]
    with acting_for(who):
        spec = squares.request(square).complete()
        run = store.create(spec, owners.myself())
        owners.touch(run.folder)
        if right is not None:
            scores = {"exact_match": right / ROWS}
            run.log.emit("evaluated", which="tuned", loss=0.1, rows=ROWS, seconds=1.0, metrics=scores)
            run.log.emit("done", message="")
    with squares._changing() as found:
        found.squares[who.owner] = replace(square, run=run.id)
    return run


def test_thirty_who_press_at_once_have_thirty_squares_and_guess_once(everybody: list[Asker]) -> None:
    rng = random.Random(3)
    twice = [who for who in everybody for _ in range(2)]
    rng.shuffle(twice)
    together([partial(squares.take, who.owner) for who in twice])
    found = squares.stored_map().squares
    assert {square.at for square in found.values()} == set(range(MANY))
    assert found.keys() == {who.owner for who in everybody}
    for write, name in ((squares.guess, "guess"), (squares.land, "right")):
        asked = [(who.owner, rng.randint(0, ROWS)) for who in twice]
        first = together([partial(write, *one) for one in asked])
        stored = {owner: getattr(square, name) for owner, square in squares.stored_map().squares.items()}
        kept = Counter(one for one, came in zip(asked, first, strict=True) if came)
        assert kept == Counter(stored.items()), "the first one of each, once"
    more = [joined("late"), joined("later")]
    shared = [squares.take(who.owner) for who in more]
    assert [square.turn for square in shared] == [1, 1] and shared[0].at != shared[1].at
    assert max(Counter(square.at for square in squares.stored_map().squares.values()).values()) == 2


def test_a_square_of_who_left_is_free_again_unless_it_was_measured(empty_class: Path) -> None:
    ada, bob = joined("Ada"), joined("Bob")
    first, second = squares.take(ada.owner), squares.take(bob.owner)
    squares.land(bob.owner, 3)
    joining.leave(ada.owner)
    joining.leave(bob.owner)
    assert squares.take(joined("Eve").owner).at == first.at
    assert squares.stored_map().squares[bob.owner].at == second.at
    joining.forget(bob.owner)
    assert squares.take(joined("Max").owner).at == second.at


def test_a_result_shows_after_the_guess_only(empty_class: Path) -> None:
    ada = joined("Ada")
    square = squares.take(ada.owner)
    with pytest.raises(BadInput):
        squares.train(ada.owner)
    squares.land(ada.owner, 7)
    assert result(square.at) is None and not summary(look_at_all()).people["done"]
    assert "<b>7</b>" not in map_html(look_at_all(), True)
    with pytest.raises(BadInput):
        squares.guess(ada.owner, ROWS + 1)
    assert squares.guess(ada.owner, 9) and not squares.guess(ada.owner, 10)
    assert summary(look_at_all()).off == 2 and "<b>7</b>" in map_html(look_at_all(), True)
    assert summary(look_at_all()).best == (square.at, 7)


@pytest.mark.weights
def test_what_a_run_measures_lands_and_outlives_it(empty_class: Path) -> None:
    link(empty_class)
    ada = joined("Ada")
    squares.take(ada.owner)
    squares.guess(ada.owner, 12)
    run = trained(ada, right=25)
    assert run.spec.learning_rate in RATES and run.spec.eval_rows == ROWS
    assert seen(ada).square.right == 25
    with acting_for(ada):
        store.remove(run)
    assert seen(ada).square == Square(squares.take(ada.owner).at, 0, 12, run.id, 25)


@pytest.mark.weights
def test_recordings_stand_in_for_runs_that_wait(empty_class: Path) -> None:
    link(empty_class)
    people = [joined(name) for name in ("Ada", "Bob", "Eve", "Max")] + [joined("x") for _ in range(20)]
    teacher = joined("Grace", joining.class_keys().teacher)
    taken = {who.owner: squares.take(who.owner).at for who in people}
    assert set(recordings()) == set(range(len(squares.SQUARES)))
    waiting, guesses_later, unguessed, measured = people[:4]
    for who in (waiting, measured):
        squares.guess(who.owner, 5)
    run = trained(waiting, right=None)
    squares.land(measured.owner, 1)
    with acting_for(waiting), pytest.raises(places.NotATeacher):
        squares.fill()
    with acting_for(teacher):
        squares.fill()
    squares.guess(guesses_later.owner, 6)
    for who in (waiting, guesses_later):
        assert seen(who).square.right == recordings()[taken[who.owner]] and seen(who).square.recorded
    with acting_for(waiting):
        assert run.asked_to_stop() or run.status() is Status.STOPPED
    assert not seen(measured).square.recorded and seen(measured).square.right == 1
    assert seen(unguessed).square.right is None
    free = set(recordings()) - set(taken.values())
    assert free and all(result(at) == recordings()[at] for at in free)
    with acting_for(teacher):
        squares.clear()
    assert squares.stored_map() == squares.ClassMap()


def test_a_damaged_map_is_told_and_can_be_cleared(empty_class: Path) -> None:
    ada, teacher = joined("Ada"), joined("Grace", joining.class_keys().teacher)
    squares.take(ada.owner)
    for text in ("[]", "{", '{"squares": {"x": {"at": 99}}}', '{"squares": {"x": {"at": "1"}}}'):
        squares._file().write_text(text)
        with pytest.raises(PeftLabError):
            squares.take(ada.owner)
    with acting_for(teacher):
        squares.clear()
    squares.take(ada.owner)


def test_names_are_text_and_can_be_hidden(empty_class: Path) -> None:
    squares.take(joined("<b>Eve").owner)
    assert "&lt;b&gt;Eve is guessing" in map_html(look_at_all(), True)
    assert "Eve" not in map_html(look_at_all(), False)
