"""A lab folder of its own for every test session: weights and data of the real one, runs of nobody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from peft_lab.assets import store as assets
from peft_lab.errors import AssetError

IN_CI = os.environ.get("CI") == "true"
REAL_HOME = assets.home()
# what a test needs is on this machine or is not: nothing asks a hub
os.environ["HF_HUB_OFFLINE"] = "1"
# torch's threads sleep while they wait, as in the app's own processes: they would burn what a second worker needs
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# no clock in a test: on a busy machine an example may take any time
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")


def missing(reason: str) -> None:
    """End a test that lacks something: skipped on a person's machine, failed in CI, where nothing may be lacking."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("weights") and isinstance(item, pytest.Function):
            item.fixturenames.append("assets_home")
        if Path(__file__).parent / "browser" in item.path.parents:
            item.add_marker(pytest.mark.browser)


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
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PEFT_LAB_HOME for one test."""
    home = tmp_path / "home"
    monkeypatch.setenv("PEFT_LAB_HOME", str(home))
    return home
