"""The drawing as a component: what of a method, a run and its knobs reaches the browser. Clicks: tests/browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.drawing import living
from peft_lab.drawing.block import draw_block
from peft_lab.drawing.living import sent
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model
from peft_lab.ui.components.block import handles
from tests.prose import says
from tests.ui import living as living_module
from tests.waits import SECONDS


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


MOST_BYTES = 300_000


def _living_page(ended: bool) -> None:
    from peft_lab.methods import get_method
    from peft_lab.ui.components.block import block, handles
    from tests.ui import living

    shape, method = living.shape(), get_method("lora")
    values = method.complete(shape, {})
    block(
        shape,
        method.parts(shape, values),
        trajectory=living.trajectory(ended),
        title="Your run",
        show=("layers", "curve"),
        live_events=[{"step": 9, "loss": 0.05}, {"step": 11, "loss": 0.01}],
        handles=handles(method, shape, values),
    )


def data(ended: bool = True) -> dict[str, Any]:
    app = AppTest.from_function(_living_page, kwargs={"ended": ended}).run(timeout=SECONDS)
    assert not app.exception
    # the record is a part of its own, which the drawing's names
    record, drawing = (json.loads(part.proto.json)[0] for part in app.get("bidi_component"))
    assert drawing["record"] == record["id"]
    return {**drawing, "run": record}


def test_the_run_is_sent_with_its_name_and_the_drawings_paths() -> None:
    got = data()
    assert got["title"] == "Your run" and got["show"] == ["layers", "curve"]
    run = got["run"]
    assert says(run["label"], "LoRA", "all-MiniLM-L6-v2", "r = 8", "2026-11-26", "cpu")
    assert run["steps"] == living_module.STEPS and run["total"] == 8
    drawn = re.findall(r'data-path="([^"]+)"', got["wide"])
    for part in run["parts"]:
        assert any(part["at"].endswith(f".{path}") for path in drawn), part["at"]


def test_events_that_follow_lengthen_the_curve_and_a_gap_does_not() -> None:
    assert data(ended=False)["run"]["curve"]["loss"] == [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]


def test_another_state_is_another_run_for_the_browser() -> None:
    whole = living_module.trajectory()
    assert sent(whole)["id"] != sent(replace(whole, ended=False))["id"]
    # an answer that comes after the last step is shown, too
    assert sent(whole)["id"] != sent(replace(whole, answers=whole.answers[:-1]))["id"]


@pytest.mark.parametrize("slug", all_methods())
def test_every_stop_of_a_handle_has_the_count_of_the_methods_own_formula(slug: str) -> None:
    method = get_method(slug)
    for name in ("smollm2-135m", "minilm-l6"):
        shape = get_model(name).shape
        if any(problem.level == "error" for problem in method.problems(shape, {})):
            continue
        values = method.complete(shape, {})
        for handle in handles(method, shape, values):
            assert handle.kind == "targets" or values[handle.knob] in [stop.value for stop in handle.stops]
            for stop in handle.stops:
                wanted = method.formula(shape, {**values, handle.knob: stop.value}).trainable
                assert stop.trainable == wanted


def test_settings_that_do_not_work_have_no_handles() -> None:
    method, shape = get_method("lora"), get_model("smollm2-135m").shape
    assert handles(method, shape, {**method.complete(shape, {}), "target_modules": ("nowhere",)}) == ()


def test_the_module_is_one_small_file_that_asks_for_nothing() -> None:
    module = living.living_module()
    assert len(module.encode()) <= MOST_BYTES
    assert module.count("export default") == 1
    assert not re.search(r"^(import|export (?!default))", module, re.MULTILINE)
    assert not re.search(r"\bfetch\(|XMLHttpRequest|https?://(?!www\.w3\.org/2000/svg)", module)


def test_every_file_of_it_is_in_the_module_after_what_it_uses() -> None:
    folder = files("peft_lab.drawing") / "js"
    assert sorted(file.name for file in folder.iterdir()) == sorted(living.MODULE_FILES)
    for index, name in enumerate(living.MODULE_FILES):
        used = re.findall(
            r'^import [^;]+ from "\./([\w.]+)";', (folder / name).read_text("utf-8"), re.MULTILINE
        )
        assert set(used) <= set(living.MODULE_FILES[:index]), name


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("slug", all_methods())
def test_every_part_of_a_method_has_a_way_through_it(slug: str, layout: Any) -> None:
    method, shape = get_method(slug), get_model("gpt2" if slug == "bitfit" else "smollm2-135m").shape
    parts = method.parts(shape, method.complete(shape, {}))
    svg = draw_block(shape, parts, layout=layout).svg
    ways = set(re.findall(r'data-lane="trained" data-of="([^"]+)"', svg))
    kinds = {"low_rank", "gate", "columns", "cells", "bottleneck"}
    assert {part.at for part in parts if part.kind in kinds} <= ways
    starts = [float(start) for start in re.findall(r'data-lane="stream" data-from="([\d.-]+)"', svg)]
    assert starts == sorted(starts) and starts[0] == 0
