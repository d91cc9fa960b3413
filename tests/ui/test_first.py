"""The first page finds ready what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FIRST = """
import sys
import app
from peft_lab.ui.shell import dress
dress.ready()
known = set(sys.modules)
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("app.py", default_timeout=600)
own = set(sys.modules)
page.run()
assert not page.exception and page.button, page
print("LATE", [name for name in sorted(set(sys.modules) - own) if name.startswith(("peft_lab", "PIL", "numpy"))])
print("LARGE", [name for name in ("pandas", "pyarrow", "torch") if name in sys.modules])
"""


@pytest.mark.further
def test_home_imports_nothing_that_was_not_made_ready_and_no_pandas() -> None:
    """In a process of its own, where nothing has been imported yet."""
    done = subprocess.run([sys.executable, "-c", _FIRST], capture_output=True, text=True, check=True)
    assert "LATE []" in done.stdout and "LARGE []" in done.stdout, done.stdout
    assert "No runtime found" not in done.stderr, (
        "what a module at import keeps in st.cache_data is warned of"
    )
