"""Sweeps on disk: the same runs are the same sweep, and who carries one out is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peft_lab.core.errors import RunError
from peft_lab.runs import owners
from peft_lab.studies.sweeps import plan, store
from tests.conftest import link
from tests.studies.sweeps.made import EXAMPLE

pytestmark = pytest.mark.weights


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    link(own_home)
    return own_home


def test_the_same_runs_are_one_sweep_and_come_back_as_they_were_asked_for() -> None:
    specs = plan.sweep_of(EXAMPLE).specs
    assert store.sweeps() == []
    kept = store.keep(specs)
    assert store.keep(specs) == kept == store.get(kept.id) and kept.specs == specs
    other = store.keep(plan.sweep_of({**EXAMPLE, "steps": 31}).specs)
    assert {one.id for one in store.sweeps()} == {kept.id, other.id}


def test_what_is_no_sweep_is_refused_by_its_name() -> None:
    for name in ("..", "nothing", "a/b", "x" * 300):
        with pytest.raises(RunError, match="There is no sweep called"):
            store.get(name)
    kept = store.keep(plan.sweep_of(EXAMPLE).specs)
    (kept.folder / "sweep.json").write_text('{"specs": [{"model": 1}]}')
    store._specs.cache_clear()
    with pytest.raises(RunError, match="cannot be read"):
        _ = kept.specs


def test_it_is_running_while_its_process_lives_and_says_so() -> None:
    kept = store.keep(plan.sweep_of(EXAMPLE).specs)
    assert not kept.running
    with kept.claimed():
        assert kept.running
        with pytest.raises(RunError, match="already running"), kept.claimed():
            pass
        assert kept.running, "who was refused takes nothing away"
    assert not kept.running
    gone = {**owners.myself().to_dict(), "pid": 2**22 + 1, "at_work": True}
    (kept.folder / "owner.json").write_text(json.dumps(gone))
    assert not kept.running, "killed"
    for damaged in ("[", "[]", "null"):
        (kept.folder / "owner.json").write_text(damaged)
        assert not kept.running
