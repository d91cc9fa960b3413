"""Nothing of one learner can be seen, opened, stopped, deleted, continued, compared or exported by another.

``OPERATIONS`` is every function that is told of a run or a comparison by its name. One that is not in it fails
:func:`test_every_operation_is_tried`; so does code that finds its way to a folder past ``places.mine()``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from peft_lab import takeaway
from peft_lab.classroom import joining, places
from peft_lab.core.asking import Asker, NobodyAsks, acting_for
from peft_lab.core.errors import BadInput, RunError
from peft_lab.core.inspector import Inspector
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.runs import preview, queue, respond, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.view import Status
from peft_lab.runs.waiting import ahead
from peft_lab.studies import blending, serving
from peft_lab.studies.compare import store as comparisons
from peft_lab.studies.sweeps import store as sweeps
from peft_lab.takeaway import bundle
from peft_lab.takeaway.ship import adapter as ship
from peft_lab.training.tasks import apart, hub, pictures
from peft_lab.ui import pages
from peft_lab.ui.components.own_data import keep
from peft_lab.ui.runs import shown
from peft_lab.ui.server import sessions
from tests.classroom.conftest import PRACTISES, SECRET, Room
from tests.models import homemade
from tests.models.assets import adapters_folders
from tests.ui.test_pages import opened

pytestmark = pytest.mark.weights
PACKAGE = Path(places.__file__).parents[1]

#: What is told of something by its name, and how it is called. All of them refuse a name of another's by "There is no".
OPERATIONS: dict[str, Callable[[Room], Any]] = {
    "runs.store.get": lambda room: store.get(room.run),
    "runs.store.delete": lambda room: store.delete(room.run),
    "runs.respond.respond": lambda room: respond.respond(room.run, ["a text"]),
    "runs.respond.ask": lambda room: respond.ask(room.run, ["a text"]),
    "runs.queue.RunQueue.stop": lambda room: get_queue().stop(room.run),
    "runs.queue.RunQueue.go_on": lambda room: get_queue().go_on(room.run),
    "runs.queue.RunQueue.position": lambda room: get_queue().position(room.run),
    "runs.queue.RunQueue.wait": lambda room: get_queue().wait(room.run, 0),
    "runs.waiting.ahead": lambda room: ahead(room.run),
    "studies.store.Study.get": lambda room: comparisons.get(room.comparison),
    "studies.store.Study.get, of a sweep": lambda room: sweeps.get(room.sweep),
    "studies.store.Study.delete": lambda room: comparisons.delete(room.comparison),
    "studies.blending.compare_intruders": lambda room: blending.compare_intruders(room.run),
    "studies.blending.ask_intruders": lambda room: blending.ask_intruders(room.run).result(),
    "takeaway.bundle.zipped_library_folder": lambda room: bundle.zipped_library_folder(room.run),
    "studies.serving.measure_serving": lambda room: serving.measure_serving(
        {method: dict.fromkeys(("movies", "products", "tweets"), room.run) for method in ("adapters", "lora")}
    ),
}
#: Those of a page say it on the page, or answer with nothing.
SILENT: dict[str, Callable[[Room], Any]] = {
    "ui.runs.shown.read_insight": lambda room: shown.read_insight(room.run),
    "ui.runs.shown.read_arrays": lambda room: shown.read_arrays(room.run),
    "ui.runs.shown.stop": lambda room: shown.stop(room.run),
    "ui.runs.shown.go_on": lambda room: shown.go_on(room.run),
}
#: Those of the teacher, refused to everybody else, with a run's name or without.
TEACHERS: dict[str, Callable[[Room], Any]] = {
    "runs.queue.end_for_teacher": lambda room: queue.end_for_teacher(room.ada.owner, room.run),
    "runs.queue.class_rows": lambda room: queue.class_rows({}),
    "interview.learners.schedule.expected_by_class": lambda room: schedule.expected_by_class(),
    "classroom.joining.learners": lambda room: joining.learners(),
    "classroom.places.show_page": lambda room: places.show_page("lora", {}),
    "classroom.places.take_back_page": lambda room: places.take_back_page(),
}
#: Names that are no run's or comparison's, or functions that only pass one on to those above.
OTHERS = {
    "studies.carrying.Queue.stop": "a protocol",
    "studies.carrying.Queue.go_on": "a protocol",
    "studies.store.Study.create": "writes into one's own folder",
    "takeaway.generator.as_notebook": "only writes the name",
    "runs.record.record_of": "of what it is handed",
    "drawing.svg.Canvas.rect": "a place in a drawing",
    "drawing.svg.Canvas.path": "a place in a drawing",
    "runs.store.note_starter": "has the run in hand; the mark is a browser's",
    "ui.runs.shown.show_run": "keeps what the address says; shown_run asks the store",
    "ui.runs.shown.short_id": "cuts a text",
    "ui.method.inside.lora.trained": "draws what read_insight gave; asks the store",
    "ui.method.inside.lora.held_out": "asks the store",
    "ui.method.inside.lora.kind_of": "asks the store",
    **dict.fromkeys(
        [f"interview.tour.{name}" for name in ("progress", "visit", "start_over", "let_go")]
        + ["ui.tour.page.place_of", "ui.tour.page.filled_words"],
        "the name of a path",
    ),
}
#: Files that may name folders otherwise than by places.mine(), and why.
PAST = {
    "core/disk.py": "defines home(): weights and data, everybody's",
    "classroom/places.py": "decides; what the teacher shows to all",
    "classroom/joining.py": "the secret, the class's own; makes and removes learners' folders",
    "cli/application.py": "names the folder in a message",
    "ui/components/frame.py": "names the folder in a message",
    "cli/machine.py": "looks at the disk",
    "engine/timing/here.py": "what was measured of the machine",
    "workers/inspector.py": "tells a process where weights lie",
    "runs/child.py": "tells a process where weights lie; trains the run that it was made for, as its owner",
    "studies/on_ray.py": "where weights lie",
    "runs/tracking/start.py": "where trackers of the machine's own user lie; a learner's run goes to none",
    "runs/waiting.py": "the queue trains for all; hides whose is not one's own; counts all, names none",
    "runs/queue.py": "the device's lock; acts for each run's owner; for the teacher, who is asked for",
    "runs/store.py": "everyones(), for the queue",
    "interview/learners/schedule.py": "for the teacher, who is asked for",
    "ui/server/guard.py": "counts who has joined; tries whether the folder can be written to",
    "studies/expiry.py": "removes what is old, whoever's",
    "studies/class_map.py": "the class's one map: scores that all see, without names; looks at a run as its owner",
}
_PAST = {"home", "shared", "of", "owners", "everyones", "asker_of", "forget"}
_FROM = {"assets", "places", "joining", "store"}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every public function and method outside the command line, by module and name."""
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        if module.startswith("cli."):
            continue
        for node in ast.parse(file.read_text("utf-8")).body:
            inner = node.body if isinstance(node, ast.ClassDef) else [node]
            prefix = f"{module}.{node.name}" if isinstance(node, ast.ClassDef) else module
            for each in inner:
                if isinstance(each, ast.FunctionDef) and not each.name.startswith("_"):
                    yield f"{prefix}.{each.name}", each


def test_every_operation_is_tried() -> None:
    told = {
        name
        for name, node in functions()
        if {"identity", "run_id", "mark"} & {each.arg for each in node.args.args}
    }
    by_other_words = {
        "studies.store.Study.get, of a sweep",
        "studies.serving.measure_serving",
    }
    told -= TEACHERS.keys()
    assert told | by_other_words == OPERATIONS.keys() | SILENT.keys() | OTHERS.keys()


def test_questions_to_worker_processes_about_runs_are_asked_in_person() -> None:
    """A worker keeps answers and models; it is told who asks, and keeps them for nobody else."""
    assert all(
        getattr(each, "in_person", False)
        for each in (
            respond.respond,
            blending.compare_intruders,
            serving.measure_serving,
            preview.look,
            respond.opened_scores,
            bundle.zipped_library_folder,
        )
    )


def test_no_code_finds_a_folder_past_the_one_place() -> None:
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in _PAST
                and isinstance(node.value, ast.Name)
                and node.value.id in _FROM
            ):
                found.add(file.relative_to(PACKAGE).as_posix())
    assert found <= PAST.keys(), "everything that belongs to somebody begins with places.mine()"


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_stranger_is_told_that_there_is_none(name: str, room: Room) -> None:
    with acting_for(room.bob), pytest.raises(RunError, match=r"no (run|comparison|sweep)"):
        OPERATIONS[name](room)
    with pytest.raises(NobodyAsks):
        OPERATIONS[name](room)


@pytest.mark.parametrize("name", TEACHERS)
def test_what_is_the_teachers_is_refused_to_learners(name: str, room: Room) -> None:
    for who in (room.bob, room.ada):
        with acting_for(who), pytest.raises(places.NotATeacher):
            TEACHERS[name](room)
    with acting_for(room.teacher):
        TEACHERS[name](room)


@pytest.mark.parametrize("name", SILENT)
def test_a_stranger_is_not_given_what_the_owner_has_just_seen(name: str, room: Room) -> None:
    with acting_for(room.ada):
        before = shown.read_insight(room.run)
        SILENT[name](room)
        assert before
    with acting_for(room.bob):
        assert not SILENT[name](room)
    with acting_for(room.ada):
        assert store.get(room.run).status() is Status.DONE and shown.read_insight(room.run) == before


def test_the_owner_may(room: Room) -> None:
    """The same operations, so that a refusal above is not a refusal of everybody."""
    with acting_for(room.ada):
        assert store.get(room.run).status() is Status.DONE
        assert [run.id for run in store.runs()] == [room.run]
        assert get_queue().wait(room.run, 0) is Status.DONE and ahead(room.run) == []
        assert comparisons.get(room.comparison).id == room.comparison
        assert sweeps.get(room.sweep).specs == (store.get(room.run).spec,)
        assert SECRET in takeaway.script(store.get(room.run)) and takeaway.adapter_zip(store.get(room.run))
        with pytest.raises(BadInput, match="is done"):
            get_queue().go_on(room.run)
        assert "bob" not in str(store.root())


def test_the_adapter_of_anothers_run_is_not_read(room: Room) -> None:
    with acting_for(room.bob), pytest.raises(BadInput, match="neither a run"):
        ship.read(room.run)
    with acting_for(room.ada):
        assert ship.read(room.run).tensors


def test_a_worker_process_answers_the_owner_and_not_the_next_one(room: Room) -> None:
    worker = Inspector()
    try:
        with acting_for(room.ada):
            (said,) = worker.ask(respond.respond, room.run, ["a text"])
            assert said["tuned"]["answer"] in ("good", "bad")
        with acting_for(room.bob), pytest.raises(RunError, match="no run"):
            worker.ask(respond.respond, room.run, ["a text"])
    finally:
        worker.close()


def test_lists_hold_ones_own(room: Room) -> None:
    with acting_for(room.bob):
        assert not store.runs() and not store.summaries() and not comparisons.comparisons()
        assert not sweeps.sweeps()
        assert shown.summaries() == [] and Learners().names() == ()
    with acting_for(room.ada):
        assert len(store.summaries()) == len(comparisons.comparisons()) == len(shown.summaries()) == 1
        assert [one.id for one in sweeps.sweeps()] == [room.sweep]
        assert [*Learners().names()] == [PRACTISES]


def test_the_same_plan_of_two_learners_is_two_comparisons(room: Room) -> None:
    with acting_for(room.ada):
        plan = comparisons.get(room.comparison).plan
    with acting_for(room.bob):
        kept = comparisons.keep(plan)
        assert kept.id == room.comparison and kept.standing(plan).runs == {}
        comparisons.delete(kept.id)
    with acting_for(room.ada):
        assert comparisons.get(room.comparison).plan == plan


def test_anothers_files_are_not_opened_shown_or_trained_on(room: Room, tmp_path: Path) -> None:
    with acting_for(room.ada):
        library = adapters_folders.FOLDER / adapters_folders.CLASSIFIER
        adapter = places.mine() / hub.UPLOADS / "adapter.zip"
        adapter.parent.mkdir(parents=True, exist_ok=True)
        adapter.write_bytes(library_files.packed(library))
        folder = Path(homemade.images(tmp_path / "images"))
        images = Path(keep("mine.zip", pictures.pack(folder), lambda: None))
        assert adapter.is_relative_to(places.mine()) and images.is_relative_to(places.mine())
        assert apart.load_file(images).images and "not tokens" in str(
            preview.look("smollm2-135m", room.upload, 64)
        )
        before = len(store.runs())
    rest: dict[str, Any] = {"steps": 60, "batch": 2, "learning_rate": 1e-3, "max_length": 17, "eval_rows": 2}
    trained = RunSpec("a-vit", "bitfit", "own", **rest, own_data=str(images))
    refused = [
        lambda: get_queue().submit(RunRequest("minilm-l6", "bitfit", "own", own_data=room.upload)),
        lambda: store.create(RunSpec("minilm-l6", "adapters", "sentiment", **rest, start=str(adapter))),
        lambda: respond.opened_values(adapter, "minilm-l6"),
        lambda: respond.opened_scores(str(adapter), "minilm-l6", "sentiment"),
        lambda: store.create(trained),
        lambda: store.create(replace(trained, own_data=str(folder))),
        *(partial(show, "smollm2-135m", room.upload, 64) for show in (preview.look, preview.ask, preview.require)),
    ]  # fmt: skip
    try:
        with acting_for(room.bob):
            for look in refused:
                with pytest.raises(BadInput, match="you uploaded"):
                    look()
            with pytest.raises(BadInput, match="Is a directory"):  # a class takes zips
                apart.load_file(folder)
            assert store.runs() == []
        with acting_for(room.ada):
            run = store.create(trained)
            assert run.folder.is_relative_to(places.mine())
            store.delete(run.id)
            assert len(store.runs()) == before
    finally:
        adapter.unlink()
        images.unlink()


@pytest.mark.parametrize("name", ["..", "../x", "", "A" * 32, "f" * 31, "f" * 33, "\x00" * 32])
def test_no_name_leads_out_of_the_class(name: str, room: Room) -> None:
    if name == "":
        assert places.of(name) == room.home  # the machine's own user
        return
    with pytest.raises(BadInput):
        places.of(name)


# -- pages -------------------------------------------------------------------------------------------------------


def _as(who: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "who_asks", lambda: who)


def _text(app: Any) -> str:
    """All that Streamlit was given for the page, controls and downloads included."""
    return str(app._tree) + str([each.proto for each in app.main])


def _addresses(room: Room) -> dict[str, dict[str, str]]:
    methods = {slug: {"run": room.run, "tab": "train"} for slug in pages.method_pages()}
    return (
        {name: {} for name in pages.titles()}
        | methods
        | {
            "compare": {"comparison": room.comparison},
            "sweeps": {"sweep": room.sweep},
        }
    )


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize("page", list(pages.titles()))
def test_no_page_shows_a_stranger_anything(page: str, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    _as(room.bob, monkeypatch)
    app = opened(page, **_addresses(room)[page])
    said = _text(app)
    assert not app.exception
    assert not any(
        word in said.replace(f"'{room.comparison}'", "").replace(f"'{room.sweep}'", "")
        for word in (room.run, SECRET, PRACTISES, room.ada.owner)
    )


@pytest.mark.parametrize(
    ("page", "seen"), [("bitfit", SECRET), ("runs", "run"), ("sweeps", "run"), ("practice", PRACTISES)]
)
def test_the_owner_sees_it_there(page: str, seen: str, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above looks for is there to be found."""
    _as(room.ada, monkeypatch)
    app = opened(page, **_addresses(room)[page])
    assert (room.run if seen == "run" else seen) in _text(app)
