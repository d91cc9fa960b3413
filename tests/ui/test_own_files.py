"""The Runs page shows the data that one brought, and removes what is chosen."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from peft_lab.training.tasks import hub
from tests.training.tasks.test_kept_files import put
from tests.waits import SECONDS


def _page() -> None:
    from peft_lab.ui.runs.page import own_files

    own_files()


def test_nothing_is_said_where_nothing_is_kept(own_home: Path) -> None:
    app = AppTest.from_function(_page, default_timeout=SECONDS).run()
    assert not app.exception and not app.markdown


def test_a_chosen_file_is_removed(own_home: Path) -> None:
    mine, theirs = put(own_home, "uploads", "mine.csv", 3), put(own_home, "datasets", "theirs.jsonl")
    app = AppTest.from_function(_page, default_timeout=SECONDS).run()
    told = "\n".join(each.value for each in app.markdown)
    assert "22 B in all" in told and "uploads stay" in told
    assert [option[:11] for option in app.multiselect[0].options] == ["theirs.json", "mine.csv, 2"]
    assert app.expander[0].label == "2 files" and app.button[0].disabled
    app.multiselect[0].select(hub.kept_files()[1]).run()
    app.button[0].click().run()
    assert not app.exception
    assert theirs.exists() and not mine.exists()
