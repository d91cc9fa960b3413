"""A lab folder of its own for every test session: weights and data of the real one, runs of nobody else."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings

from peft_lab.core import disk
from peft_lab.core.errors import AssetError, RunError
from peft_lab.models.assets import store as assets
from peft_lab.runs import store

T = TypeVar("T")
IN_CI = os.environ.get("CI") == "true"
REAL_HOME = disk.home()
# what a test needs is on this machine or is not: nothing asks a hub
os.environ["HF_HUB_OFFLINE"] = "1"
# torch's threads sleep while they wait, as in the app's own processes: they would burn what a second worker needs
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# no clock in a test: on a busy machine an example may take any time
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")
# The files that keep a worker longest: they train, simulate, or draw pages by the dozen. They are begun first, since a
# worker that meets one of them last works on alone. The order is rough; ``--durations`` on a quiet machine tells it.
# First those that are long in make further alone.
LONGEST = (
    "advise/plans/test_script.py",
    "cluster/test_on_ray.py",
    "engine/test_every_type.py",
    "advise/plans/test_ranking.py",
    "atlas/test_live.py",
    "interview/clinic/test_fixes.py",
    "advise/plans/test_page.py",
    "runs/tracking/test_real.py",
    "browser/test_foreign.py",
    "browser/test_accessibility.py",
    "browser/test_cold.py",
    "browser/test_links.py",
    "ui/test_pages.py",
    "takeaway/test_script.py",
    "atlas/test_counted.py",
    "methods/test_contract.py",
    "ui/test_memory_page.py",
    "runs/test_queue.py",
    "runs/test_going_on.py",
    "runs/test_training.py",
    "engine/test_simulate.py",
    "methods/test_count.py",
    "ui/test_lab_addresses.py",
    "drawing/test_layout.py",
    "engine/published/test_published.py",
    "ui/test_take_away.py",
)


def missing(reason: str) -> None:
    """End a test that lacks something: skipped on a person's machine, failed in CI, where nothing may be lacking."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


# What picks few tests of few files, in make slow and make further: half of all files have none and are not imported.
FEW = ("slow and not further", "further and not rest", "rest")
MARKS = ("mark.slow", "mark.sampled", "mark.further", "mark.rest")
LEFT = 8  # of the cases that a sample left, one in eight runs in make further


@cache
def _has_few(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return any(mark in text for mark in MARKS)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    few = config.option.markexpr in FEW and collection_path.name.startswith("test_")
    return True if few and not _has_few(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {Path(__file__).parent / name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))
    cases: Counter[tuple[Path, str]] = Counter()
    left: Counter[tuple[Path, str]] = Counter()
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled:
            function = (item.path, item.nodeid.partition("[")[0])
            if cases[function] % sampled.args[0]:
                item.add_marker(pytest.mark.further)
                if left[function] % LEFT:
                    item.add_marker(pytest.mark.rest)
                left[function] += 1
            cases[function] += 1
        if item.get_closest_marker("rest"):
            item.add_marker(pytest.mark.further)
        few = item.get_closest_marker("slow") or item.get_closest_marker("further")
        if few and not _has_few(item.path):
            raise pytest.UsageError(
                f"{item.nodeid} has a mark that its file does not name: make slow misses it"
            )
        if item.get_closest_marker("weights") and isinstance(item, pytest.Function):
            item.fixturenames.append("assets_home")
        if Path(__file__).parent / "browser" in item.path.parents:
            item.add_marker(pytest.mark.browser)


def awaited(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns. In a thread of its own: a worker that has driven a browser has a loop running in this
    one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, work).result()


def link(home: Path) -> None:
    """Make the real weights and data appear in ``home``, if they are there."""
    home.mkdir(parents=True, exist_ok=True)
    for part in ("models", "data"):
        if (REAL_HOME / part).is_dir() and not (home / part).exists():
            (home / part).symlink_to(REAL_HOME / part, target_is_directory=True)


@pytest.fixture(scope="session", autouse=True)
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests never write into the lab folder of whoever runs them."""
    home = tmp_path_factory.mktemp("home")
    link(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_LAB_HOME", str(home))
        yield home


@pytest.fixture(scope="session", autouse=True)
def packages_read_once() -> Iterator[None]:
    """Each AppTest has Streamlit look through all installed packages for components, a fifth of a second of processor
    for what does not change while tests run: it was three quarters of what tests of pages took."""
    from streamlit.components.v2 import manifest_scanner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests)
        )
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_left_unended(session_home: Path) -> Iterator[None]:
    """A run that a module's tests leave without an ending would hold up those of the next module for ever."""
    yield
    for run in store.runs() if (session_home / "runs").is_dir() else []:
        with suppress(RunError):
            if not run.status().final:
                run.log.emit("stopped", message="left by a test")


@pytest.fixture(scope="session")
def assets_home(session_home: Path) -> Path:
    """PEFT_LAB_HOME of this session with all weights and data in it; they are fetched once if they are missing."""
    if not all(found.present for found in assets.status()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PEFT_LAB_HOME", str(REAL_HOME))
            try:
                assets.fetch()
            except AssetError as trouble:
                missing(f"no weights: {trouble}")
        link(session_home)
    return session_home


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes with one thread; put back, as the last digits of a run depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PEFT_LAB_HOME for one test."""
    home = tmp_path / "home"
    monkeypatch.setenv("PEFT_LAB_HOME", str(home))
    return home
