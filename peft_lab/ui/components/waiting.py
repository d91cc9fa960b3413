"""Answers from another process that may take a while: the page is drawn without and comes back by itself."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import streamlit as st

from peft_lab.ui.components.parts import part

LOOK = 0.25  # seconds between looks at an answer that is still to come


def come_back(asked: Sequence[Future[Any]]) -> None:
    """Draw the page again as soon as another of the answers is there. Does nothing when all are."""
    open_ = [future for future in asked if not future.done()]
    if not open_:
        return

    def watch() -> None:
        if any(future.done() for future in open_):
            st.rerun()

    part(watch, every=LOOK)
