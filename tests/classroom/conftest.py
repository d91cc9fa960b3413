"""A class of two: Ada, who has trained on a file of her own, compared and practised, and Bob, who has only joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from peft_lab.classroom import joining, places
from peft_lab.core import asking
from peft_lab.core.asking import Asker, acting_for
from peft_lab.interview.learners.schedule import Learners
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.view import Status
from peft_lab.studies.compare import store as comparisons
from peft_lab.studies.compare.store import ComparisonRequest, make_plan
from peft_lab.studies.sweeps import store as sweeps
from peft_lab.ui.components.own_data import keep
from peft_lab.ui.server import sessions
from tests.browser.conftest import chromium
from tests.conftest import link
from tests.waits import SECONDS

__all__ = ["chromium"]  # a fixture, of which there may be one
CODE = "blue-whale"
SECRET = "xylophonequark"
PRACTISES = "Countess of Lovelace"


@dataclass(frozen=True)
class Room:
    """A class, and what belongs to Ada in it."""

    home: Path
    ada: Asker
    bob: Asker
    teacher: Asker
    upload: str
    run: str
    comparison: str
    sweep: str


@pytest.fixture
def empty_class(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A class that nobody has joined, and a thread for which nobody asks."""
    monkeypatch.setenv(asking.CLASS_VARIABLE, CODE)
    monkeypatch.delenv(asking.LIMITS_VARIABLE, raising=False)
    monkeypatch.setattr(sessions, "who_asks", lambda: None)
    return own_home


def joined(name: str, code: str = CODE) -> Asker:
    return joining.join(code, name)[0]


@pytest.fixture(scope="module")
def room(assets_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    home = tmp_path_factory.mktemp("class")
    link(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_LAB_HOME", str(home))
        patch.setenv(asking.CLASS_VARIABLE, CODE)
        patch.setattr(sessions, "who_asks", lambda: None)
        ada, bob = joined("Ada"), joined("Bob")
        teacher = joined("Grace", joining.class_keys().teacher)
        with acting_for(ada):
            upload, run = _uploaded(), _trained()
            plan = make_plan(
                ComparisonRequest("minilm-l6", "sentiment", ("bitfit",), steps=2, seeds=(0,), eval_rows=4)
            )
            comparison = comparisons.keep(plan).id
            sweep = sweeps.keep([store.get(run).spec]).id
            Learners().create(PRACTISES)
        yield Room(home, ada, bob, teacher, upload, run, comparison, sweep)


def _uploaded() -> str:
    lines = [
        f"{word} {SECRET} {number},{label}"
        for number in range(10)
        for word, label in (("fine", "good"), ("awful", "bad"))
    ]
    return keep("mine.csv", "\n".join(["text,label", *lines]).encode(), lambda: None)


def _trained() -> str:
    upload = next((places.mine() / "uploads").iterdir())
    asked = RunRequest(
        "minilm-l6", "bitfit", "own", steps=2, batch=2, eval_rows=4, own_data=str(upload), probes=(SECRET,)
    )
    identity = get_queue().submit(asked)
    assert get_queue().wait(identity, SECONDS) is Status.DONE
    return identity
