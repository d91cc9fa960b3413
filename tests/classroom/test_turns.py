"""Turns, limits, clean-up and the teacher's view, on runs that are written down and not trained."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.classroom import joining, places
from peft_lab.core import asking as allowed
from peft_lab.core.asking import OPERATOR, Asker, acting_for
from peft_lab.core.errors import BadInput, RunError
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.runs import admission, allowance, checkpoints, owners, queue, store, waiting
from peft_lab.runs.queue import QUIET, WAITING, PageVisit, RunQueue
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.runs.waiting import ahead
from peft_lab.studies import expiry
from peft_lab.studies.compare import store as comparisons
from peft_lab.studies.sweeps import store as sweeps
from peft_lab.training.tasks import hub
from tests.classroom.conftest import joined
from tests.prose import facts, says
from tests.runs.driving import at_first_step
from tests.waits import SECONDS, until

ASKED = RunRequest("minilm-l6", "bitfit", "sentiment", steps=20, batch=2, eval_rows=4)
SPEC = RunSpec(
    **{
        **vars(ASKED),
        "values": get_method("bitfit").defaults(get_model("minilm-l6").shape),
        "learning_rate": 1e-3,
        "max_length": 64,
    }
)
DAY = 24 * 3600.0


def queued(who: Asker) -> Run:
    with acting_for(who):
        run = store.create(SPEC, owners.myself())
        owners.touch(run.folder)
        return run


def test_owners_take_turns(empty_class: Path) -> None:
    ada, bob = joined("Ada"), joined("Bob")
    first, second, third = (queued(ada) for _ in range(3))
    other = queued(bob)
    mine = queued(Asker(OPERATOR))
    assert waiting.in_fair_order(waiting.unfinished()) == [first, other, mine, second, third]
    assert waiting.runs_before(other) == [first] and waiting.runs_before(third) == [
        first,
        other,
        mine,
        second,
    ]
    waiting.note_turn(first)
    first.log.emit("starting")
    assert waiting.runs_before(other) == [first], "what trains stands before what waits"
    first.log.emit("done")
    assert waiting.in_fair_order(waiting.unfinished()) == [other, mine, second, third], (
        "Ada has just had her turn"
    )
    waiting.note_turn(other)
    other.log.emit("stopped", message="")
    assert waiting.in_fair_order(waiting.unfinished()) == [mine, second, third]


@given(st.lists(st.integers(0, 3), max_size=12))
def test_turns_are_first_come_first_served_for_each_and_fair_between_them(come: list[int]) -> None:
    top = places.shared() / places.FOLDER
    rows = [
        (float(at), Run(f"run{at}", top / f"{who:032x}" / "runs" / f"run{at}")) for at, who in enumerate(come)
    ]
    order = waiting.in_fair_order(rows)
    assert sorted(run.id for run in order) == sorted(run.id for _, run in rows)
    for who in set(come):
        own = [run for run in order if int(run.folder.parent.parent.name, 16) == who]
        assert own == [run for _, run in rows if int(run.folder.parent.parent.name, 16) == who]
    # nobody has a second turn before everybody who waits has had a first, and so on
    turns = [int(run.folder.parent.parent.name, 16) for run in order]
    rounds = [turns[:place].count(who) for place, who in enumerate(turns)]
    assert rounds == sorted(rounds)
    if len(set(come)) <= 1:
        assert order == [run for _, run in rows]


def test_a_queue_lets_a_newcomer_before_anothers_second_run(
    empty_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = joined("Ada"), joined("Bob")
    queue, trained, may_go = RunQueue(), list[str](), threading.Event()

    def train(run: Run) -> None:
        waiting.note_turn(run)
        run.log.emit("starting")
        trained.append(run.id)
        assert may_go.wait(SECONDS)
        run.log.emit("done")

    monkeypatch.setattr(queue, "_run", train)
    runs = [queued(ada) for _ in range(3)]
    for run in runs:
        queue._take(run)
    until(lambda: trained)
    late = queued(bob)
    queue._take(late)
    may_go.set()
    until(lambda: len(trained) == 4)
    assert trained == [run.id for run in (runs[0], late, runs[1], runs[2])]


def test_of_others_one_sees_that_they_are_before_and_nothing_else(empty_class: Path) -> None:
    ada, bob = joined("Ada"), joined("Bob")
    queued(ada)
    waiting = queued(bob)
    with acting_for(bob):
        (one,) = ahead(waiting.id)
    assert (one.id, one.spec, one.status) == ("", None, Status.QUEUED)


# -- limits ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tight(empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> Asker:
    monkeypatch.setenv(allowed.LIMITS_VARIABLE, "runs=2,steps=20,megabytes=60,upload_megabytes=1")
    return joined("Ada")


def test_so_many_runs_at_a_time(tight: Asker) -> None:
    bob = joined("Bob")
    first = queued(tight)
    with acting_for(tight):
        assert allowance.limit_refusal(SPEC) is None and "(1 now)" in allowance.limits_said()
    queued(tight)
    with (
        acting_for(tight),
        pytest.raises(RunError, match=facts(2, "runs")),
        allowance.admitted(SPEC.steps, 1),
    ):
        raise AssertionError("a third run was let in")
    with acting_for(bob):
        assert allowance.limit_refusal(SPEC) is None
    first.log.emit("stopped", message="")
    with acting_for(tight):
        assert allowance.limit_refusal(SPEC) is None


def test_going_on_takes_a_place_while_it_is_queued(tight: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (queued(tight) for _ in range(3))
    for run in (first, second, third):
        run.log.emit("stopped", message="")
    queue, reopen = RunQueue(), checkpoints.reopen
    monkeypatch.setattr(RunQueue, "_take", lambda self, run, timed: None)

    def meanwhile(run: Run, *given: object) -> None:
        if run == second:
            with pytest.raises(RunError, match=facts(2, "runs")):
                queue.go_on(third.id, anew=True)
        reopen(run, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoints, "reopen", meanwhile)
    with acting_for(tight):
        queue.go_on(first.id, anew=True)
        queue.go_on(second.id, anew=True)
        assert allowance.under_way() == 2


def test_what_waiting_runs_may_still_write_counts(tight: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(allowed.LIMITS_VARIABLE, "runs=9,steps=20,megabytes=60")
    needed = admission.needed_disk_bytes(SPEC)
    with acting_for(tight):
        for _ in range(60_000_000 // needed):
            assert allowance.limit_refusal(SPEC) is None
            queued(tight)
        assert "the limit in this class is 60.0 MB" in str(allowance.limit_refusal(SPEC))


def test_so_many_steps_and_bytes_but_for_teacher_and_operator(
    tight: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, long = queued(tight), replace(SPEC, steps=100_000)
    run.log.emit("done")
    with acting_for(tight):
        assert allowance.refusal_of_steps(20) is None and "21 steps" in str(allowance.refusal_of_steps(21))
        assert allowance.limit_refusal(SPEC) is None and "too many" in str(allowance.limit_refusal(long))
        (run.folder / "big").write_bytes(bytes(59_000_000))
        allowance._folder_sizes.clear()
        assert "Delete runs" in str(allowance.limit_refusal(SPEC))
        assert allowance.refusal_of_upload(1_000_000) is None
        assert "the limit in this class is 1.00 MB" in str(allowance.refusal_of_upload(1_000_001))
    for who in (joined("Grace", joining.class_keys().teacher), Asker(OPERATOR)):
        with acting_for(who):
            allowance.note_minutes(10**6)
            assert allowance.limit_refusal(long) is None and allowance.limits_said() == ""
            assert allowance.minutes_refusal() is None and not allowance.minutes_over(time.time())
    monkeypatch.delenv(allowed.CLASS_VARIABLE)
    assert allowance.limit_refusal(long) is None and allowance.limits_said() == ""


def test_so_many_minutes_within_a_day(tight: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(allowed.LIMITS_VARIABLE, "minutes=10")
    now = time.time()
    with acting_for(joined("Bob")):
        assert allowance.minutes_taken(now) == 0 and allowance.minutes_refusal(now) is None
    with acting_for(tight):
        allowance.note_minutes(120, now - 20 * 3600)
        allowance.note_minutes(479, now - 3600)
        assert allowance.minutes_taken(now) == pytest.approx(599) and allowance.limit_refusal(SPEC) is None
        assert says(allowance.limits_said(), "10 minutes", "10 used")
        allowance.note_minutes(2, now)
        assert allowance.minutes_over(now)
        said = str(allowance.limit_refusal(SPEC))
        assert says(said, "trained", "10 minutes") and says(said, "limit", "10 minutes")
        assert "4 h" in said, "when the turn of 20 hours ago is a day old"
        assert allowance.minutes_taken(now + 5 * 3600) == pytest.approx(481) and not allowance.minutes_over(
            now + 5 * 3600
        )
        allowance.note_minutes(601, now + 3 * 3600)  # then the clock is set back
        assert (
            allowance.minutes_over(now)
            and allowance.minutes_over(now + DAY - 60)
            and not allowance.minutes_over(now + DAY + 60)
        )
        (places.mine() / allowance.MINUTES_FILE).write_text("[[")
        assert allowance.minutes_taken(now) == 0, "a damaged note says nothing"


def test_deleting_runs_gives_no_minutes_back_and_what_trains_counts(tight: Asker) -> None:
    run = queued(tight)
    with acting_for(tight):
        before = time.time()
        run.log.emit("starting")
        assert 90 <= allowance.minutes_taken(time.time() + 90) <= 90 + time.time() - before
        run.log.emit("done")
        allowance.note_minutes(90)
        store.remove(run)
        assert allowance.minutes_taken() == pytest.approx(90)


@pytest.mark.further
@pytest.mark.weights
def test_a_run_ends_with_its_owners_minutes_and_the_next_does_not_start(
    assets_home: Path, empty_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(allowed.LIMITS_VARIABLE, "minutes=60")
    monkeypatch.setattr("peft_lab.runs.queue.PATIENCE", SECONDS)  # it ends by itself
    empty_class.mkdir(exist_ok=True)
    for folder in ("models", "data"):
        (empty_class / folder).symlink_to(assets_home / folder)
    queue, long = RunQueue(), RunRequest("minilm-l6", "bitfit", "sentiment", steps=500, eval_rows=4)
    with acting_for(joined("Ada")):
        first, second = queue.submit(long), queue.submit(long)
        at_first_step(first)
        allowance.note_minutes(60 * 60)
        assert queue.wait(first, SECONDS) is Status.STOPPED
        assert says(store.get(first).view().message, "used up", "60 minutes")
        assert store.get(first).adapter.is_dir(), "what it learned is kept"
        assert queue.wait(second, SECONDS) is Status.STOPPED
        assert says(store.get(second).view().message, "limit", "60 minutes")
        with pytest.raises(RunError, match="1 day"):
            queue.submit(long)


# -- what is old -------------------------------------------------------------------------------------------------


def _age(path: Path, days: float) -> None:
    at = time.time() - days * DAY
    os.utime(path, (at, at))


def test_a_learner_sees_and_removes_their_own_files_alone(empty_class: Path) -> None:
    ada, bob = joined("Ada"), joined("Bob")
    with acting_for(ada):
        mine = places.mine() / hub.UPLOADS / "0123456789ab-mine.csv"
        mine.parent.mkdir()
        mine.touch()
        assert [each.path for each in hub.kept_files()] == [mine]
    with acting_for(bob):
        assert hub.kept_files() == []
        with pytest.raises(BadInput, match="your files"):
            hub.remove_file(mine)
    with acting_for(ada):
        hub.remove_file(mine)
    assert not mine.exists()


def test_old_runs_and_uploads_go_and_others_stay(empty_class: Path) -> None:
    ada = joined("Ada")
    days = allowed.Limits().days
    old, new, going = (queued(ada) for _ in range(3))
    for run in (old, new):
        run.log.emit("done")
    with acting_for(ada):
        uploads = places.mine() / hub.UPLOADS
    uploads.mkdir()
    for name, age in (("old.csv", days + 1), ("new.csv", days - 1)):
        (uploads / name).touch()
        _age(uploads / name, age)
    for run in (old, going):
        for path in (run.log.path, run.folder):
            _age(path, days + 1)
    assert expiry.clear() == expiry.Removed(0, 1, 1)
    assert not old.folder.exists() and new.folder.exists() and going.folder.exists()
    assert [file.name for file in uploads.iterdir()] == ["new.csv"]


def test_old_sweeps_and_comparisons_go_too(empty_class: Path) -> None:
    with acting_for(joined("Ada")):
        old, new, going = (sweeps.keep([replace(SPEC, seed=seed)]) for seed in range(3))
        compared = comparisons.Comparison("old", comparisons.root() / "old")
        compared.folder.mkdir(parents=True)
        (compared.folder / "plan.json").write_text("{}")
        later = time.time() + (allowed.Limits().days + 1) * DAY
        with going.claimed():
            os.utime(new.folder / "sweep.json", (later, later))
            for file in (empty_class / "class").glob("*/who.json"):
                os.utime(file, (later, later))
            assert expiry.clear(later) == expiry.Removed(studies=2)
            assert {sweep.id for sweep in sweeps.sweeps()} == {new.id, going.id}
        assert not old.folder.exists() and not compared.folder.exists()
        assert expiry.clear(later) == expiry.Removed(studies=1), "it has ended, and is as old"


def test_who_has_not_come_for_long_is_forgotten_unless_a_run_goes(empty_class: Path) -> None:
    ada, bob, eve = joined("Ada"), joined("Bob"), joined("Eve")
    queued(bob)
    days = allowed.Limits().days
    now = time.time() + (days + 1) * DAY
    os.utime(empty_class / "class" / eve.owner / "who.json", (now, now))
    assert expiry.clear(now).learners == 1
    assert set(places.owners()) == {bob.owner, eve.owner} and ada.owner not in places.owners()


# -- the teacher -------------------------------------------------------------------------------------------------


def test_the_teacher_sees_who_is_where_and_who_may_need_help(empty_class: Path) -> None:
    ada, bob, eve = joined("Ada"), joined(""), joined("Eve")
    teacher = joined("Grace", joining.class_keys().teacher)
    queued(ada).log.emit("failed", message="out of memory")
    queued(bob)
    where = {ada.owner: PageVisit("lora", 1.0), eve.owner: PageVisit("tour", QUIET + 60)}
    with acting_for(teacher):
        rows = queue.class_rows(where, but=teacher.owner)
        later = queue.class_rows(where, but=teacher.owner, now=time.time() + WAITING + 61)
    assert [row.learner.title for row in rows] == ["Ada", "Learner 2", "Eve"]
    assert says(rows[0].stuck, "failed") and not rows[1].stuck and says(rows[2].stuck, "inactive", "11 min")
    assert says(later[1].stuck, "waiting", "6 min")
    assert rows[0].run is not None and rows[0].run.problem == "out of memory"


def test_only_the_teacher_ends_anothers_run(empty_class: Path) -> None:
    ada, bob = joined("Ada"), joined("Bob")
    teacher = joined("Grace", joining.class_keys().teacher)
    run = queued(ada)
    for who in (ada, bob, Asker(OPERATOR)):
        with acting_for(who), pytest.raises(places.NotATeacher):
            queue.end_for_teacher(ada.owner, run.id)
        with acting_for(who), pytest.raises(places.NotATeacher):
            queue.class_rows({})
    assert not run.asked_to_stop()
    with acting_for(teacher):
        queue.end_for_teacher(ada.owner, run.id)
    assert run.asked_to_stop()


def test_the_teacher_is_shown_what_trains_and_ends_one_after_the_other(empty_class: Path) -> None:
    ada, teacher = joined("Ada"), joined("Grace", joining.class_keys().teacher)
    first, second = queued(ada), queued(ada)
    first.log.emit("starting")
    first.log.emit("worker", owner=owners.myself().to_dict(), niceness=0)

    def row(now: float | None = None) -> queue.ClassRow:
        with acting_for(teacher):
            return queue.class_rows({}, now=now)[0]

    seen = row(time.time() + WAITING + 61)
    assert seen.run is not None and (seen.run.id, seen.more, seen.ending) == (first.id, 1, False)
    assert seen.stuck == "", "the second waits for the first, which is their own"
    with acting_for(teacher):
        queue.end_for_teacher(ada.owner, first.id)
    assert row().ending and first.why_stopped() == queue.ENDED_BY_TEACHER
    first.log.end("stopped", message="Stopped at step 3.")
    seen = row()
    assert seen.run is not None and (seen.run.id, seen.more, seen.ending) == (second.id, 0, False)


def test_what_the_teacher_shows_is_seen_by_all_and_set_by_nobody_else(empty_class: Path) -> None:
    ada, teacher = joined("Ada"), joined("Grace", joining.class_keys().teacher)
    with acting_for(ada):
        with pytest.raises(places.NotATeacher):
            places.show_page("lora", {"r": "4"})
        with pytest.raises(places.NotATeacher):
            places.take_back_page()
    assert places.shown_page() is None
    with acting_for(teacher):
        places.show_page("lora", {"r": "4"})
    found = places.shown_page()
    assert found is not None and (found.page, found.settings) == ("lora", {"r": "4"})
    (empty_class / "class/shown.json").write_text('{"page": "lora", "settings": 3}')
    assert places.shown_page() is None
    with acting_for(teacher):
        places.take_back_page()
    assert not (empty_class / "class/shown.json").exists()
