"""Bars that grow: what is sent to the browser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.ui.components.charts import FAR
from tests.waits import SECONDS

LONGEST = 4_000_000_000


def _page(limit: int) -> None:
    from peft_lab.core.units import Source
    from peft_lab.ui.components.charts import Bar, Limit, grown_bars

    parts = {"weights": 3_000_000_000, "optimizer": 1_000_000_000}
    rows = [Bar("LoRA", parts, Source.SIMULATED), Bar("IA³", {"weights": 2_000_000_000}, Source.SIMULATED)]
    grown_bars(rows, "bars", Limit(limit, "T4: 16 GB usable"), close=True)


def sent(limit: int) -> dict[str, Any]:
    app = AppTest.from_function(_page, kwargs={"limit": limit}).run(timeout=SECONDS)
    assert not app.exception
    (component,) = app.get("bidi_component")
    found: dict[str, Any] = json.loads(component.proto.json)
    return found


@pytest.mark.parametrize(("limit", "drawn"), [(FAR * LONGEST, True), (FAR * LONGEST + 1, False)])
def test_a_limit_far_beyond_the_longest_bar_is_named_and_not_drawn(limit: int, drawn: bool) -> None:
    assert sent(limit)["limit"] == {"size": limit, "text": "T4: 16 GB usable", "drawn": drawn}


def test_rows_have_their_parts_and_sizes_and_the_legend_what_is_in_them() -> None:
    got = sent(LONGEST)
    assert [(row["label"], row["text"], row["source"]) for row in got["rows"]] == [
        ("LoRA", "4.00 GB", "simulated"), ("IA³", "2.00 GB", "simulated"),
    ]  # fmt: skip
    assert [part["name"] for part in got["legend"]] == ["weights", "optimizer"]
