"""PEFT's tables are read once, by whichever thread comes first."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.methods.shared import peft_backed


def test_two_threads_never_build_trees_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    peft_backed._constants_of_peft.cache_clear()
    inside, most = [0], [0]
    own: Callable[..., Any] = ast.parse

    def counted(text: str) -> ast.Module:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        try:
            time.sleep(0.01)  # as long as another thread needs to come
            return own(text)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(peft_backed, "ast", SimpleNamespace(parse=counted))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: peft_backed._constants_of_peft(), range(8)))
    assert len(found) == 8 and most == [1]
