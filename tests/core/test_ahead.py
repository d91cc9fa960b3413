"""What the fork server has done once is there in its children, and what it is told to import exists."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from peft_lab.core import processes
from peft_lab.core.inspector import Inspector


def made_before(_: int) -> bool:
    """Whether this process has the table of parameters' names without having asked for it."""
    from transformers import conversion_mapping

    return conversion_mapping._checkpoint_conversion_mapping_cache is not None


@pytest.mark.parametrize("name", processes.PRELOADED)
def test_what_is_imported_ahead_exists(name: str) -> None:
    assert importlib.util.find_spec(name) is not None  # the fork server says nothing of what it does not find


@pytest.mark.skipif(sys.platform != "linux", reason="children are spawned there, and have nothing done ahead")
def test_children_have_the_table_of_names(session_home: object) -> None:
    inspector = Inspector()
    assert inspector.ask(made_before, 0)
    inspector.close()
