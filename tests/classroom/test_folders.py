"""No learner names a folder of the server, by any way that takes a model's name, but those that are allowed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_lab.core import asking, machine
from peft_lab.core.asking import acting_for
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.inspector import Worker, get_inspector
from peft_lab.models import catalogue, own
from peft_lab.models.catalogue import resolve
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from peft_lab.ui.components import model_choice
from tests.classroom.conftest import joined
from tests.models import homemade
from tests.prose import facts

NEITHER = "neither a folder that this class may use nor a Hugging Face id"


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    own.read_entry.cache_clear()
    yield
    own.read_entry.cache_clear()


@pytest.fixture(autouse=True)
def fresh_workers(nothing_kept: None, empty_class: Path) -> Iterator[None]:
    """Processes that began before there was a class answer as if there were none."""
    _end_workers()
    yield
    _end_workers()


def _end_workers() -> None:
    for each in (Worker.COUNTING, Worker.MODELS):
        get_inspector(each).close()
        get_inspector(each).forget()


@pytest.fixture
def server(tmp_path: Path, empty_class: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server's disk: a model that the teacher allowed and one of somebody's own, in folders beside each other."""
    homemade.folder("bert", tmp_path / "allowed" / "bert")
    shutil.copytree(tmp_path / "allowed" / "bert", tmp_path / "secret" / "bert")
    monkeypatch.setenv(asking.MODELS_VARIABLE, str(tmp_path / "allowed"))
    monkeypatch.chdir(tmp_path)
    get_inspector(Worker.MODELS).ask(
        machine.cores
    )  # pages do not wait long for a name, nor for a process to start
    return tmp_path


def names(server: Path) -> dict[str, str]:
    (server / "allowed" / "link").symlink_to(server / "secret" / "bert", target_is_directory=True)
    return {
        "path": str(server / "secret/bert"),
        "up": str(server / "allowed/../secret/bert"),
        "link": str(server / "allowed/link"),
        "relative": "./secret/bert",
        "like an id": "secret/bert",
        "beside": str(server / "allowed-too"),
        "nowhere": str(server / "no/such/folder"),
    }


@pytest.mark.parametrize("how", ["path", "up", "link", "relative", "like an id", "beside", "nowhere"])
def test_a_folder_is_not_there(how: str, server: Path) -> None:
    """The same sentence whether there is such a folder or not, from pages, from runs and in the worker."""
    (server / "allowed-too").mkdir()
    name = names(server)[how]
    assert not own.is_folder(name) and not catalogue.looks_external(name)
    with pytest.raises(BadInput, match=NEITHER):
        resolve(name)
    with acting_for(joined("Ada")):
        with pytest.raises(BadInput, match=NEITHER):
            model_choice.from_address(name)
        with pytest.raises(PeftLabError, match=r"the catalogue|neither"):
            get_queue().submit(RunRequest(name, "lora", "sentiment"))
        assert store.runs() == []


def test_what_the_teacher_allowed_is_there(server: Path) -> None:
    name = str(server / "allowed/bert")
    assert resolve(name).live and own.lacks(name) is None
    with acting_for(joined("Ada")):
        assert model_choice.normal(name) == name


def test_nobody_learns_who_has_an_account(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~name`` is the folder of an account, or was a traceback."""
    for name in ("~root/x", "~nosuchuser/x", "~"):
        assert model_choice.normal(name) == name
        with acting_for(joined("Ada")), pytest.raises(BadInput, match=NEITHER):
            model_choice.from_address(name)
    monkeypatch.delenv(asking.CLASS_VARIABLE)
    assert model_choice.normal("~/x") == str(Path.home() / "x")
    with pytest.raises(BadInput, match=facts("neither", "folder")):
        model_choice.from_address("~nosuchuser/x")
