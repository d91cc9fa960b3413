"""The app on a disk that is full or can only be read: every page opens, and says what cannot be kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults.disk import Disk, NoDisk, small_disk
from peft_lab.core.errors import RunError
from peft_lab.runs import owners, store
from peft_lab.runs.spec import RunRequest
from peft_lab.ui import pages
from tests.conftest import missing
from tests.prose import says
from tests.ui.test_pages import opened, told

pytestmark = [pytest.mark.weights, pytest.mark.filterwarnings("ignore")]
PAGES = (
    "home",
    "lora",
    "runs",
    "sweeps",
    "playground",
    "compare",
    "memory",
    "choose",
    "practice",
    "myths",
    "tour",
    "teach",
)
SPEC = RunRequest("minilm-l6", "lora", "sentiment", steps=60, batch=2)


@pytest.fixture
def disk(tmp_path: Path, assets_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    try:
        with small_disk(tmp_path / "disk", 8) as made:
            for part in ("models", "data"):
                (made.path / part).symlink_to(assets_home / part, target_is_directory=True)
            monkeypatch.setenv("PEFT_LAB_HOME", str(made.path))
            yield made
    except NoDisk as reason:
        missing(f"no disk can be mounted: {reason}")


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_every_page_opens(disk: Disk, fault: str) -> None:
    disk.fill() if fault == "full" else disk.read_only()
    for page in PAGES:
        app = opened(page)
        assert not app.exception, page
        assert app.title or app.error, page


def test_train_says_why_it_cannot(disk: Disk) -> None:
    disk.fill()
    app = opened("lora", tab="train", model="minilm-l6")
    app.button(key="lora-train").click().run()
    assert not app.exception
    assert says(told(app), "disk", "full") and store.runs() == []


@pytest.mark.parametrize("kind", ["permission", "refusal"])
def test_a_folder_that_may_not_be_read_is_told_on_the_page(
    kind: str, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = own_home / "runs"
    raised = (
        PermissionError(13, "Permission denied", str(top)) if kind == "permission" else RunError("It is so.")
    )

    def refuse(folder: Path) -> list[store.Run]:
        raise raised

    monkeypatch.setattr(store, "_runs_in", refuse)
    monkeypatch.setattr(pages, "_navigated", False)  # by way of the app, as a server opens every page
    app = opened("runs")
    assert not app.exception and len(app.error) == 1 and app.title[0].value == "Runs"


def test_a_dead_run_is_lost_on_its_page_without_a_visit_to_the_list(
    own_home: Path, assets_home: Path
) -> None:
    own_home.mkdir()
    for part in ("models", "data"):
        (own_home / part).symlink_to(assets_home / part, target_is_directory=True)
    run = store.create(SPEC.complete(), replace(owners.myself(), pid=2**22 + 1))
    run.log.emit("starting")
    for step in (1, 2):
        run.log.emit("step", step=step, loss=1.0, lr=0.1, grad_norm=1.0, tokens=40, seconds=0.5)
    app = opened("lora", tab="train", run=run.id)
    assert not app.exception
    assert "**Lost**" in told(app) and "left" not in told(app).split("**Lost**")[1][:40]
    assert owners.GONE in told(app)
    assert not [button for button in app.button if button.label.startswith("Stop")]
    assert not app.button(key="lora-train").disabled
