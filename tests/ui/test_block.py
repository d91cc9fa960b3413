"""The drawing as a component: what it sends to the browser, and how a choice comes back. Clicks: tests/browser."""

from __future__ import annotations

import json
from typing import Any

from streamlit.testing.v1 import AppTest

from peft_lab.drawing.block import draw_block
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model

Q_PROJ = "model.layers.{}.self_attn.q_proj"


def _page(rank: int, selected: str | None) -> None:
    import streamlit as st

    from peft_lab.methods import get_method
    from peft_lab.models.catalogue import get_model
    from peft_lab.ui.components.block import block

    shape, method = get_model("smollm2-135m").shape, get_method("lora")
    parts = method.parts(shape, method.complete(shape, {"r": rank}))
    chosen = block(shape, parts, method.quantization({}), selected, "drawing")
    st.write(f"chosen: {chosen}")


def run(rank: int = 8, selected: str | None = None) -> tuple[AppTest, dict[str, Any]]:
    app = AppTest.from_function(_page, kwargs={"rank": rank, "selected": selected}).run()
    assert not app.exception
    (component,) = app.get("bidi_component")
    (data,) = json.loads(component.proto.json)
    return app, data


def test_both_layouts_and_the_words_are_sent() -> None:
    shape, method = get_model("smollm2-135m").shape, get_method("lora")
    parts = method.parts(shape, method.complete(shape, {}))
    app, data = run()
    assert data["wide"] == draw_block(shape, parts).svg
    assert data["narrow"] == draw_block(shape, parts, layout="narrow").svg
    assert "LoRA rank 8 at q_proj" in data["words"]
    assert app.markdown[0].value == "chosen: None"


def test_a_knob_changes_the_picture_and_a_selection_does_not() -> None:
    _, before = run()
    _, moved = run(rank=64)
    _, selected = run(selected=Q_PROJ)
    assert before["wide"] != moved["wide"]
    # The outline is set in the browser: replacing the picture would take the keyboard's focus away.
    assert (before["wide"], before["narrow"]) == (selected["wide"], selected["narrow"])
    assert (before["selected"], selected["selected"]) == (None, Q_PROJ)
