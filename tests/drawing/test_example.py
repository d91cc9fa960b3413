"""The token strip shows the chosen task's own example."""

from __future__ import annotations

import pytest

from peft_lab.drawing.block import MOST, draw_block, strip_of
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.training.tasks import all_tasks


def test_words_and_marks_are_cells_of_their_own() -> None:
    assert strip_of("Order for Anna: two, 7 pm.\nJSON:") == (
        *("Order", "for", "Anna", ":", "two", ",", "7", "pm", ".", "JSON", ":"),
    )  # fmt: skip
    assert strip_of("It's fine") == ("It's", "fine")
    assert len(strip_of("a " * 50)) == MOST
    assert strip_of("") == ()


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_each_tasks_first_words_are_drawn_and_nobody_elses(layout: str) -> None:
    shape = get_model("minilm-l6").shape
    for task in (task for task in all_tasks() if not task.images):
        words = strip_of(task.samples[0])
        drawing = draw_block(shape, tokens=words, layout=layout)  # type: ignore[arg-type]
        assert f">{words[0]}<" in drawing.svg
        assert ("Anna" in drawing.svg) is (task.name in ("json", "fields", "tags"))


def test_without_a_task_no_ones_order_is_drawn() -> None:
    assert "Anna" not in draw_block(get_model("t5-base").shape).svg


def test_the_text_is_drawn_under_the_half_that_reads_it() -> None:
    shape = get_model("t5-base").shape
    words = ("Order", "for", "Anna")
    prefix = get_method("prefix")
    columns = prefix.parts(shape, prefix.require(shape, {}))
    assert ">Anna<" in draw_block(shape, tokens=words).svg
    assert ">Anna<" not in draw_block(shape, columns, tokens=words).svg, (
        "the decoder reads what it wrote itself"
    )
