"""Activations that wait in main memory, on the Memory page: the control, the address, the figures, the cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.core import units
from peft_lab.engine import simulate
from peft_lab.engine.simulate import simulate as simulate_step
from peft_lab.engine.work import copied, left
from peft_lab.ui.memory.controls import MemoryForm
from tests.ui.badges import without_badge
from tests.ui.test_memory_page import settled, tables
from tests.ui.test_pages import opened, told

pytestmark = pytest.mark.filterwarnings("ignore")
LABEL = "Offloading"
ON_A_GPU = {"model": "minilm-l6", "device": "rtx-4090", "batch": "2", "seq": "64"}
ASKED = MemoryForm(model="minilm-l6", batch=2, seq=64)


def switch(app: AppTest) -> Any:
    return next((one for one in app.toggle if one.label == LABEL), None)


def shown(app: AppTest) -> str:
    captions = "\n".join(caption.value for caption in app.caption)
    return (told(app) + tables(app) + captions).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.slow
def test_figures_follow_the_control_and_its_cost_is_said() -> None:
    app = settled(opened("memory", **ON_A_GPU))
    assert "Main memory" not in shown(app) and "Offloading takes" not in shown(app)
    kept = simulate_step(ASKED.request("lora"))
    assert units.size(simulate.needed_bytes(kept)) in shown(app)
    settled(switch(app).set_value(True).run())
    assert app.query_params["offload"] in ("true", ["true"])
    away = simulate_step(replace(ASKED, offload=True).request("lora"))
    work = away.work[-1]
    assert left(work) == away.host_bytes and copied(work) == 2 * left(work)
    after = shown(app)
    assert f"with LoRA a step copies {units.size(copied(work))} over the bus" in after
    assert f"there and back. The copies take {units.seconds(copied(work) / (0.7 * 32e9))}" in after
    assert "Main memory" in after and units.size(away.host_bytes) in after
    # the moment that the timeline starts at
    assert f"{units.size(away.peak_bytes)} alive, the peak" in after
    assert (
        simulate.needed_bytes(away) < simulate.needed_bytes(kept)
        and units.size(simulate.needed_bytes(away)) in after
    )
    assert not without_badge(app)[1]


def test_the_address_says_it_and_the_lessons_ask_for_the_other() -> None:
    app = settled(opened("memory", **ON_A_GPU, offload="true", tab="why"))
    assert switch(app).value is True
    assert "Why LoRA does not shrink" not in told(app)
    settled(app.button(key="lessons-keep").click().run())
    assert switch(app).value is False and "offload" not in app.query_params
    assert "Why LoRA does not shrink" in told(app)
    assert "'maybe'" in told(opened("memory", tab="published", offload="maybe"))


@pytest.mark.slow
def test_what_a_processor_keeps_is_in_main_memory_in_any_case() -> None:
    app = settled(opened("memory", **ON_A_GPU | {"device": "this-machine", "offload": "true"}))
    assert switch(app) is None
    assert "Offloading takes" not in shown(app)
