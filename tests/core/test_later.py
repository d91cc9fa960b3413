"""A module that is imported at its first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from peft_lab.core import later


def test_it_is_loaded_by_what_it_is_asked_for_and_by_nothing_else() -> None:
    code = (
        "import sys; from peft_lab.core.later import torch; hasattr(torch, '__wrapped__')\n"
        "assert 'torch' not in sys.modules; torch.float32; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_replaced_is_seen_and_nothing_is_set_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import textwrap

    one = later.Later("textwrap")
    assert one.wrap is textwrap.wrap and one.TextWrapper is textwrap.TextWrapper
    monkeypatch.setattr(textwrap, "wrap", len)
    assert one.wrap("four") == 4  # type: ignore[comparison-overlap]
    with pytest.raises(AttributeError, match="textwrap"):
        one.wrap = len
