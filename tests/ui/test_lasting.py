"""What a server has imported is not searched for garbage; what its pages leave behind is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

COUNT = """
import gc, json, weakref
from peft_lab.ui.server import app as lasting

class Page:
    def __init__(self):
        self.itself = self  # only a search finds that it is gone

imported = [[number] for number in range(100_000)]
lasting.set_apart()
searched = len(gc.get_objects())
page = weakref.ref(Page())
left = page() is not None
gc.collect()
print(json.dumps([gc.get_freeze_count(), searched, left, page() is None]))
"""


@pytest.mark.slow
def test_what_is_imported_is_set_apart_and_pages_are_still_let_go_of() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    apart, searched, left, found = json.loads(done.stdout)
    assert apart > 100_000 > 10 * searched
    assert left and found
