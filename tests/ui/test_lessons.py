"""The Memory page's lessons: what they say of bytes adds up to what was simulated."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from peft_lab.core import units
from peft_lab.engine.request import Simulation
from peft_lab.engine.simulate import simulate
from peft_lab.models.catalogue import get_model
from peft_lab.ui.memory.controls import MemoryForm
from peft_lab.ui.memory.page import LESSONS, OFF, ON, fullest, quantised_weights

pytestmark = pytest.mark.filterwarnings("ignore")


def chosen(model: str, batch: int = 2, seq: int = 64) -> MemoryForm:
    return MemoryForm(model=model, batch=batch, seq=seq)


def simulated(on: MemoryForm, slug: str, checkpointing: bool = False) -> Simulation:
    return simulate(replace(on.request(slug), values={}, checkpointing=checkpointing))


@pytest.fixture(scope="module")
def small() -> dict[str, Simulation]:
    on = chosen("smollm2-135m")
    found = {slug: simulated(on, slug) for slug in ("full", "lora", "ia3", "qlora")}
    return found | {ON: simulated(on, "lora", True), OFF: found["lora"]}


@pytest.mark.parametrize(
    "model",
    [
        "bert-base",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("smollm2-135m", "gpt2", "t5-base")),
    ],
)
def test_what_is_packed_and_what_is_not_are_all_the_weights(model: str) -> None:
    one = simulated(chosen(model), "qlora")
    packed = quantised_weights(get_model(model).shape)
    whole = get_model(model).parameters - packed
    # a little more: each tensor is rounded up to 512 bytes
    assert packed // 2 + 2 * whole <= one.parts["weights"] <= (packed // 2 + 2 * whole) * 1.001


def test_eight_bits_are_told_as_such() -> None:
    on = replace(chosen("minilm-l6"), dtype="int8")
    one = simulate(on.request("qlora"))
    lesson = next(lesson for lesson in LESSONS if lesson.key == "qlora")
    text = lesson.tell(on, {"qlora": one}).text
    packed = quantised_weights(get_model("minilm-l6").shape)
    assert f"{units.size(packed)} hold" in text and "in 8 bits, and" in text and "constants" in text


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
def test_every_lesson_is_told_from_figures(lesson: object, small: dict[str, Simulation]) -> None:
    told = lesson.tell(chosen("smollm2-135m"), small)  # type: ignore[attr-defined]
    assert re.search(r"\*\*[\d.]+ [MG]B", told.text)
    assert all(sum(parts.values()) > 0 for parts in told.rows.values())


@pytest.mark.slow
def test_lessons_hold_where_they_are_shown(small: dict[str, Simulation]) -> None:
    kept = {name: fullest(one).parts["activations"] for name, one in small.items()}
    assert kept["lora"] > 0.7 * kept["full"]
    assert small["ia3"].peak_bytes > small["lora"].peak_bytes
    assert kept[ON] < kept[OFF] / 2
