"""Simulations that a part of the page waits for: what is there, what is to come, what cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import streamlit as st

from peft_lab.errors import PeftLabError
from peft_lab.memory.result import Simulation
from peft_lab.ui.components.waiting import come_back, is_open

#: What is answered first. Bars are what every change is for.
BARS, TAB, SEARCH = 0, 1, 2


@dataclass(frozen=True)
class Answers:
    """By what was asked about: what was found, why something cannot be simulated, and how many are still to come."""

    found: Mapping[Any, Simulation]
    refused: Mapping[Any, str]
    waiting: int

    @property
    def asked(self) -> int:
        return len(self.found) + len(self.refused) + self.waiting


def collect(asked: Mapping[Any, Future[Simulation]], patience: float = 0) -> Answers:
    """Sort futures, after ``patience`` seconds or when all are there; with some open the page comes back by itself."""
    if patience:
        wait(asked.values(), timeout=patience)
    found: dict[Any, Simulation] = {}
    refused: dict[Any, str] = {}
    for name, future in asked.items():
        if is_open(future):
            continue
        try:
            found[name] = future.result()
        except PeftLabError as error:
            refused[name] = str(error)
    missing = [future for name, future in asked.items() if name not in found and name not in refused]
    come_back(missing)
    return Answers(found, refused, len(missing))


def progress(answers: Answers, what: str) -> None:
    """A bar while something is still to come."""
    if answers.waiting:
        done = 1 - answers.waiting / answers.asked
        st.progress(done, text=f"Simulating: {answers.waiting} of {answers.asked} {what} to go")
