"""One run after another, each once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest

from peft_lab.core import disk
from peft_lab.core.errors import RunError
from peft_lab.runs import owners
from peft_lab.runs import store as runs
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies import carrying
from peft_lab.studies.compare import store
from peft_lab.studies.compare.store import Comparison, make_plan
from peft_lab.studies.store import runs_of, status_of
from tests.studies.compare.conftest import WISH, FakeQueue
from tests.waits import until

pytestmark = pytest.mark.weights


def made(runner: FakeQueue) -> Comparison:
    return store.keep(make_plan(WISH))


def wait(comparison: Comparison) -> None:
    until(lambda: not carrying.at_work(comparison))


def test_all_runs_are_made_in_order_and_never_again(runner: FakeQueue) -> None:
    comparison = made(runner)
    assert comparison.standing().status == "interrupted"
    assert carrying.carry_out_here(comparison, runner)
    assert [(spec.method, spec.seed) for spec in runner.submitted] == [
        (cell.method, cell.seed) for cell in comparison.plan.cells
    ]
    assert comparison.standing().status == "done"
    assert carrying.carry_out_here(made(runner), runner)
    assert len(runner.submitted) == len(comparison.plan.cells)


def test_a_wider_comparison_takes_over_what_a_smaller_one_has_run(runner: FakeQueue) -> None:
    carrying.carry_out_here(made(runner), runner)
    wider = store.keep(make_plan(replace(WISH, methods=("lora", "bitfit", "full"), seeds=(0, 1))))
    before = len(runner.submitted)
    carrying.carry_out_here(wider, runner)
    assert [spec.method for spec in runner.submitted[before:]] == ["full", "full"]


def test_a_run_that_was_lost_or_deleted_is_made_anew_and_no_other(runner: FakeQueue) -> None:
    comparison = made(runner)
    runner.endings = {("lora", 1): "lost"}
    carrying.carry_out_here(comparison, runner)
    standing = comparison.standing()
    assert [(cell.method, cell.seed) for cell in standing.pending] == [("lora", 1)]
    assert standing.status == "interrupted"
    gone = next(run for cell, run in standing.runs.items() if (cell.method, cell.seed) == ("bitfit", 2))
    runs.delete(gone.id)
    runner.endings, before = {}, len(runner.submitted)
    carrying.carry_out_here(comparison, runner)
    assert [(spec.method, spec.seed) for spec in runner.submitted[before:]] == [("lora", 1), ("bitfit", 2)]


def test_a_failed_run_is_left_behind_and_tried_again_when_asked(runner: FakeQueue) -> None:
    comparison = made(runner)
    runner.endings = {("bitfit", 0): "failed"}
    assert carrying.carry_out_here(comparison, runner)
    assert len(runner.submitted) == len(comparison.plan.cells)
    assert comparison.standing().status == "incomplete"
    runner.endings = {}
    carrying.carry_out_here(comparison, runner)
    assert len(runner.submitted) == len(comparison.plan.cells) + 1
    assert comparison.standing().status == "done"


def test_stop_ends_it_before_the_next_run(runner: FakeQueue) -> None:
    comparison = made(runner)

    def stop_at_the_third(spec: RunSpec) -> None:
        if len(runner.submitted) == 2:
            comparison.ask_to_stop()

    runner.before = stop_at_the_third
    assert not carrying.carry_out_here(comparison, runner)
    assert len(runner.submitted) == 3
    assert comparison.standing().status == "interrupted"
    runner.before = lambda _: None
    assert carrying.carry_out_here(comparison, runner)  # the request to stop does not outlive its answer
    assert len(runner.submitted) == 6


def test_a_request_to_stop_that_was_never_answered_is_forgotten(runner: FakeQueue) -> None:
    comparison = made(runner)
    comparison.ask_to_stop()
    comparison.note_problem("an old one")
    carrying.start(comparison, runner)
    wait(comparison)
    assert comparison.standing().status == "done" and comparison.problem == ""


def test_a_killed_owner_is_none(runner: FakeQueue) -> None:
    comparison = made(runner)
    owner = {**owners.myself().to_dict(), "at_work": True}
    disk.write_json(comparison.folder / "owner.json", owner)
    assert comparison.running
    disk.write_json(comparison.folder / "owner.json", {**owner, "started": owner["started"] - 100})
    assert not comparison.running


def test_a_run_under_way_elsewhere_is_waited_for(runner: FakeQueue) -> None:
    comparison = made(runner)
    spec = comparison.plan.cells[0].spec
    other = runs.create(spec)
    other.log.emit("queued", owner=owners.myself().to_dict())
    carrying.start(comparison, runner)
    time.sleep(3 * carrying.POLL)
    assert not runner.submitted
    other.log.emit("done", message="")
    wait(comparison)
    assert len(runner.submitted) == 5


def test_what_ends_a_thread_early_is_told(runner: FakeQueue) -> None:
    comparison = made(runner)

    def refuse(spec: RunSpec) -> None:
        raise RunError("no room")

    runner.before = refuse
    carrying.start(comparison, runner)
    wait(comparison)
    assert comparison.problem == "no room"


def test_comparisons_are_listed_newest_first_and_forgotten_without_their_runs(runner: FakeQueue) -> None:
    first = made(runner)
    second = store.keep(make_plan(replace(WISH, steps=3)))
    os.utime(first.folder / "plan.json", (1, 1))
    carrying.carry_out_here(first, runner)
    assert [one.id for one in store.comparisons()] == [second.id, first.id]
    store.delete(first.id)
    assert [one.id for one in store.comparisons()] == [second.id]
    assert len(runs.runs()) == 6
    with pytest.raises(RunError, match="no comparison"):
        store.get(first.id)


@pytest.mark.parametrize("content", ["{", "[" * 100_000])
def test_a_damaged_plan_says_so(content: str, runner: FakeQueue) -> None:
    comparison = made(runner)
    (comparison.folder / "plan.json").write_text(content)
    with pytest.raises(RunError, match="cannot be read"):
        comparison.standing()


def test_what_watches_and_fails_ends_the_run_it_watched(runner: FakeQueue) -> None:
    """An interrupt too: whoever leaves must not leave a training behind."""

    class Gone(BaseException):
        pass

    def leave(_done: int, _total: int, going: Sequence[Run]) -> None:
        if going:
            raise Gone

    class Endless(FakeQueue):
        def submit(self, spec: RunSpec) -> str:
            return runs.create(spec, owners.myself()).id

    comparison = made(runner)
    with pytest.raises(Gone):
        carrying.carry_out_here(comparison, Endless(), leave)
    (run,) = runs.runs()
    assert run.asked_to_stop() and not comparison.running


def test_a_run_under_way_is_looked_at_again_and_a_damaged_one_passed_over(runner: FakeQueue) -> None:
    spec = made(runner).plan.cells[0].spec
    run = runs.create(spec)
    run.log.emit("queued", owner=owners.myself().to_dict())
    assert not status_of(run).final
    run.log.emit("done", message="")
    assert str(status_of(run)) == "done"
    (runs.create(spec).folder / "spec.json").write_text("{")
    assert [each and each.id for each in runs_of([spec])] == [run.id]


def test_on_another_host_it_is_at_work_while_it_is_heard_of(runner: FakeQueue) -> None:
    comparison = made(runner)
    owner = {**asdict(owners.myself()), "host": "node7 1", "at_work": True}
    (comparison.folder / "owner.json").write_text(json.dumps(owner), "utf-8")
    owners.touch(comparison.folder)
    assert comparison.running
    os.utime(comparison.folder / owners.BEAT, (0, 0))
    assert not comparison.running


def test_a_run_that_has_ended_is_read_once(runner: FakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = made(runner)
    carrying.carry_out_here(comparison, runner)
    run = next(iter(comparison.standing().runs.values()))
    assert status_of(run) is Status.DONE
    monkeypatch.setattr(type(run), "events", lambda _: pytest.fail("its events are read again"))
    assert status_of(run) is Status.DONE


def test_a_refused_run_holds_up_no_other_and_is_told_at_the_end(runner: FakeQueue) -> None:
    comparison = made(runner)

    def refuse(spec: RunSpec) -> None:
        if spec.method == "lora":
            raise RunError("too large")

    runner.before = refuse
    with pytest.raises(RunError, match="too large"):
        carrying.carry_out_here(comparison, runner)
    assert [cell.method for cell in comparison.standing().done] == ["bitfit"] * 3
    assert not comparison.running


def test_a_run_that_another_command_makes_meanwhile_is_taken_over(runner: FakeQueue) -> None:
    comparison = made(runner)
    other = FakeQueue()

    def made_elsewhere(spec: RunSpec) -> None:
        if not other.submitted:
            other.submit(comparison.specs[-1])

    runner.before = made_elsewhere
    assert carrying.carry_out_here(comparison, runner)
    assert len(runner.submitted) == len(comparison.specs) - 1 and len(runs.runs()) == len(comparison.specs)
