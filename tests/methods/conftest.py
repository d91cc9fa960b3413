"""How many random combinations the property tests try: three of each method, hundreds with ``make contract``."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "methods",
    max_examples=int(os.environ.get("PEFT_LAB_EXAMPLES", "3")),
    deadline=None,
    derandomize="PEFT_LAB_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("methods")


@pytest.fixture(autouse=True)
def tiny_tensors(one_thread: None) -> None:
    """They are faster without a thread pool."""
