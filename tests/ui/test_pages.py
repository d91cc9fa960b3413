"""Every page and every section, through the app, without a browser."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import NumberInput

from peft_lab.core import inspector
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import catalogue, get_model, resolve
from peft_lab.ui import pages, state
from peft_lab.ui.foreign import plain
from peft_lab.ui.method import drawing, parts, settings
from peft_lab.ui.method.tabs import EXPORT, MOVED, PARTS, TITLES, named
from peft_lab.ui.pages import method_pages, titles
from tests.conftest import link
from tests.prose import says
from tests.ui.badges import cards, sources, without_badge
from tests.waits import SECONDS

#: As older addresses call them, so that those are opened too.
TABS = ("idea", "train", *(tab for tab in MOVED if tab != "try it"))  # whose figures test_try_it.py looks at

COMING = ("Counting…", "Counting what", "Simulating a step", "Simulating the measured step")

ROOT = Path(__file__).parents[2]


def opened(page: str, **address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    for name, value in address.items():
        app.query_params[name] = value
    app.switch_page(f"pages/{page}.py")
    return came(app.run())


def came(app: AppTest) -> AppTest:
    """The page with what it waited for."""
    # A page does not wait long for what counts and simulates; a browser draws it again by itself.
    until = time.monotonic() + SECONDS
    while (
        any(word in element.value for element in (*app.markdown, *app.caption) for word in COMING)
        and time.monotonic() < until
    ):
        app.run()
    return app


def told(app: AppTest) -> str:
    return "\n".join(element.value for element in app.markdown)


def metric(app: AppTest, label: str) -> str:
    return next(str(card.value) for card in app.metric if card.label == label)


@pytest.mark.sampled(14)
@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("slug", method_pages())
def test_every_section_of_every_method_opens(slug: str, tab: str, own_home: Path) -> None:
    """In a lab where nothing was trained: each figure has a badge beside it, and only a recorded run is measured."""
    link(own_home)
    app = opened(slug, tab=tab)
    assert not app.exception
    assert app.title[0].value == all_methods()[slug].title
    now, part = named(tab)
    complete = app.session_state[state._COMPLETE]
    assert (complete["tab"], complete.get("part", "")) == (now.lower(), part.lower())
    if tab != "idea":  # words and a formula
        assert not without_badge(app)[1]
    shown = cards(app)
    assert shown["Trainable parameters"][1] == shown["Stored adapter"][1] == "counted"
    headline = {source for _, source in shown.values()}
    assert headline <= {
        "counted",
        "simulated",
    }  # a peak that stands there before a training is a simulated one
    own = {
        "memory": {"simulated"},
        "modules": {"counted"},
        "parameters": {"counted"},
        "train": set(),
        "look inside": set(),
    }
    if tab in own:
        shipped = {"measured"} if tab in ("train", "look inside") else set()
        assert own[tab] <= sources(app) <= own[tab] | headline | shipped


@pytest.mark.parametrize("page", ["home", "runs", "sweeps", "playground", "practice", "myths"])
def test_the_other_pages_open(page: str) -> None:
    app = opened(page)
    assert not app.exception
    assert len(app.title) == 1


def _clicked_away(kept: bool) -> None:
    """An app of two pages: the second was asked for, then a run of the first wrote itself into the session."""
    import streamlit as st
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    from peft_lab.ui import shell

    first, second = (st.Page(lambda: None, title=name, url_path=name) for name in ("first", "second"))
    context = get_script_run_ctx()
    assert context is not None
    context.set_mpa_v2_page(second._script_hash)  # as a run begins that was asked for the second page
    asked = shell.asked_page()
    context.pages_manager.set_script_intent(first._script_hash, "")
    if kept:
        shell.keep_page(asked)
    st.write(st.navigation([first, second]).title)


@pytest.mark.parametrize("kept", [True, False])
def test_a_link_leads_on_although_the_page_before_starts_over(kept: bool) -> None:
    """Seen in a browser, when an answer came just as a link was clicked. Once the second case fails, Streamlit has
    mended it and ``keep_page`` can go."""
    app = AppTest.from_function(_clicked_away, kwargs={"kept": kept}).run()
    assert not app.exception
    assert app.markdown[0].value == ("second" if kept else "first")


def test_home_says_why_a_method_does_not_apply() -> None:
    app = opened("home")
    (table,) = (element.proto.body for element in app.get("html") if "does not apply" in element.proto.body)
    reasons = [element.value for element in app.markdown if element.value.startswith("- ")]
    assert table.count("does not apply") == 6 == sum(one.count("\n- ") + 1 for one in reasons)


class BusyPool:
    """Takes every question and answers none."""

    def submit(self, *_: object) -> Future[Any]:
        return Future()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("model", ["llama-3.2-3b", "t5-base", "bloomz-560m", "gemma-2-2b"])
@pytest.mark.parametrize("slug", method_pages())
def test_models_known_by_shape_are_counted_or_refused(
    slug: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step in the headline is simulated for one of the models, and still under way for the others: simulating was
    most of what this test took."""
    if model != "t5-base":
        monkeypatch.setattr(parts, "get_pool", BusyPool)
    app = opened(slug, model=model, tab="inside", part="parameters")
    assert not app.exception
    shape, method = get_model(model).shape, all_methods()[slug]
    refused = [problem.message for problem in method.problems(shape, {}) if problem.level == "error"]
    if refused:
        assert f":red[:material/error: {refused[0]}]" in told(app)
    else:
        formula = method.formula(shape, method.complete(shape, {}))
        assert says(told(app), formula.trainable)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("slug", method_pages())
def test_a_method_page_is_of_one_step(slug: str, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The headline and the part Memory ask for the very same one: 811 and 972 MB stood on one page, as peaks of a run's
    padded batch and of 64 tokens a row."""
    asked: list[tuple[int, str, Any]] = []

    class Noting(BusyPool):
        def submit(self, *question: Any) -> Future[Any]:
            urgency, function, *arguments = question
            asked.append((urgency, function.__name__, arguments))
            return super().submit(*question)

    for module in (settings, parts):
        monkeypatch.setattr(module, "get_pool", Noting)
    link(own_home)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    app.query_params["tab"], app.query_params["part"] = "inside", "memory"
    app.switch_page(f"pages/{slug}.py").run()
    assert not app.exception
    assert {urgency for urgency, _, _ in asked} == {drawing.URGENCY, 0}, (
        "the headline and the part have asked"
    )
    told = {json.dumps(arguments[0], default=str, sort_keys=True) for _, _, arguments in asked}
    assert len(told) == (1 if slug == "full" else 2), (
        "this method's step, and full fine-tuning's of the same rows"
    )


@pytest.mark.slow
def test_a_models_folder_that_changed_is_counted_anew(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 64,
    }  # fmt: skip
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config), "utf-8")
    # a page does not wait for a busy machine's process to begin
    inspector.get_inspector(inspector.Worker.MODELS).ask(resolve, str(tmp_path))
    app = opened("lora", model=str(tmp_path))
    assert metric(app, "Trainable parameters") == "2,048"
    file.write_text(json.dumps(config | {"num_hidden_layers": 3}), "utf-8")
    app = came(app.run())
    assert not app.exception
    assert metric(app, "Trainable parameters") == "3,072"
    file.write_text("{", "utf-8")
    app = came(app.run())
    assert not app.exception and "config.json" in told(app)


def test_the_count_follows_the_address() -> None:
    app = opened("lora", model="llama-3.2-3b", r="16", target_modules="q_proj,v_proj")
    assert metric(app, "Trainable parameters") == "4,587,520"


@pytest.mark.parametrize(
    ("page", "address", "message"),
    [
        ("lora", {"target_modules": "q_porj"}, "'q_porj' matches no module"),
        ("lora", {"r": "0"}, "Rank r"),
        ("lora", {"r": "many"}, "whole number"),
        ("lora", {"steps": "x", "tab": "train"}, "'x'"),
        ("lora", {"steps": "0", "tab": "train"}, "Steps must"),
        ("lora", {"steps": "9" * 20, "lr": "nan", "tab": "train"}, "nan"),
        ("lora", {"task": "jsno"}, "'jsno'"),
        ("lora", {"run": "20260101-000000-lora"}, "does not exist here"),
        ("lora", {"model": "gpt-5"}, "'gpt-5'"),
        ("bitfit", {"model": "smollm2-135m"}, "bias"),
        ("prefix", {"model": "minilm-l6"}, "key"),
        ("ia3", {"feedforward_modules": "query", "target_modules": "key"}, "query"),
        ("prompt", {"model": "minilm-l6", "num_virtual_tokens": "600"}, "positions"),
    ],
)
def test_an_impossible_choice_is_explained(page: str, address: dict[str, str], message: str) -> None:
    app = opened(page, **address)
    assert not app.exception
    assert any(plain(message) in line and line.startswith(":red[") for line in told(app).split("\n"))


def test_resetting_goes_back_to_the_defaults() -> None:
    app = opened("lora", model="llama-3.2-3b", r="16", use_dora="true")
    changed = metric(app, "Trainable parameters")
    app.button(key="lora-reset").click().run()
    assert not app.exception
    assert metric(app, "Trainable parameters") != changed


@pytest.mark.parametrize("model", sorted(catalogue()))
@pytest.mark.parametrize("slug", method_pages())
def test_a_page_starts_from_the_methods_own_defaults(slug: str, model: str) -> None:
    """What a page offers as targets has to hold every default, or the page would drop it without a word."""
    shape, method = get_model(model).shape, all_methods()[slug]
    for knob in method.knobs:
        if knob.kind == "modules":
            assert set(method.defaults(shape)[knob.name]) <= set(method.options(knob, shape))


SCRIPT = """
import streamlit as st
from peft_lab.ui import state
from peft_lab.ui.components.frame import tabs

wanted = state.remembered("page", "tab", "Two")
title = tabs("page", {name: (lambda n=name: st.markdown(f"drawn {n}")) for name in ("One", "Two", "Three")}, wanted)
state.remember("page", "tab", title)
"""


def identity(app: AppTest) -> str:
    return str(app.main.children[0].proto.id)


def test_only_the_open_tab_is_drawn_and_it_opens_where_asked() -> None:
    app = AppTest.from_string(SCRIPT).run()
    assert [text.value for text in app.markdown] == ["drawn Two"]


@pytest.mark.weights
def test_a_part_is_kept_where_its_tab_is_left_and_its_address_names_it(own_home: Path) -> None:
    link(own_home)
    app = opened("lora", tab="parameters", model="minilm-l6")
    assert (app.query_params["tab"], app.query_params["part"]) == ("inside", "parameters")
    groups: list[Any] = list(app.get("button_group"))
    parts = next(each for each in groups if each.label == "Part of Inside")
    parts.set_value("Modules").run()
    assert app.query_params["part"] in ("modules", ["modules"])
    assert "no part" in told(opened("lora", part="attic", model="minilm-l6"))


@pytest.mark.weights
def test_settings_and_drawing_fold_outside_idea_and_train_and_stay_as_they_were_left(own_home: Path) -> None:
    link(own_home)

    def keys(app: AppTest) -> set[str]:
        return {str(button.key) for button in app.button} & {"bench-fold", "bench-unfold"}

    app = opened("lora", tab="train", model="minilm-l6")
    assert keys(app) == set()
    app = opened("lora", tab="inside", model="minilm-l6", part="modules")
    assert keys(app) == {"bench-unfold"}
    app.button(key="bench-unfold").click().run()
    assert keys(app) == {"bench-fold"}
    app.switch_page("pages/bitfit.py")
    app.query_params["tab"] = "export"
    assert keys(app.run()) == {"bench-fold"}
    pages._navigated = False  # the frame around the page knows of stops
    assert keys(opened("lora", tab="inside", model="minilm-l6", stop="newcomer.3")) == {"bench-fold"}


def test_every_part_stands_in_one_tab_and_old_addresses_lead_to_one() -> None:
    every = [part for parts in PARTS.values() for part in parts]
    assert len(every) == len(set(every)) and set(PARTS) < set(TITLES)
    assert set(MOVED.values()) == {(tab, part) for tab in PARTS for part in PARTS[tab]} | {(EXPORT, "")}
    assert all(named(tab, part) == (tab, part) for tab, part in MOVED.values())


def test_the_tabs_keep_their_identity_when_another_is_remembered() -> None:
    app = AppTest.from_string(SCRIPT).run()
    before = identity(app)
    app.session_state["settings"]["page"]["tab"] = "Three"
    app.run()
    assert before
    assert identity(app) == before


TOLD = "The formula gives 60, the count 100: PEFT trains 40 in mlp.experts that the formula does not know."


def _page(difference: str | None, lora_fa: int | None) -> None:
    from peft_lab.methods.base import Formula, Term
    from peft_lab.methods.counting.count import CountReport
    from peft_lab.ui.method import parts

    formula = Formula("r", (Term("q_proj", "60", 60, 1),), 60, 60)
    report = CountReport(
        "x", "lora", 100, 1000, 10.0, 400, 100, 60 if difference else 100, 0, (), difference, lora_fa
    )
    parts._equality(report, formula)
    parts._totals(report, formula)


@pytest.mark.parametrize(("difference", "lora_fa"), [(TOLD, 70), (None, None)])
def test_a_difference_is_told_with_its_reason(difference: str | None, lora_fa: int | None) -> None:
    app = AppTest.from_function(_page, kwargs={"difference": difference, "lora_fa": lora_fa}).run()
    assert not app.exception
    shown = " ".join(element.value for element in app.markdown)
    assert [TOLD in warning.value for warning in app.warning] == ([True] if difference else [])
    assert ("both give" in shown) == (difference is None)
    told = shown + " ".join(element.proto.body for element in app.get("html"))
    assert ("LoRA-FA" in told) == (lora_fa is not None)


def another(field: NumberInput) -> float:
    """A value that the field takes and does not have."""
    step = field.step or 1
    if field.value is None:
        return (field.min or 0) + step
    above = field.value + step
    return above if field.max is None or above <= field.max else field.value - step


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("page", "tab"),
    [(page, "") for page in sorted(titles())]
    + [("lora", "train"), ("lora", "memory"), ("prefix", "train"), ("prefix", "memory")],
)
def test_every_number_is_typed_and_the_page_stands(page: str, tab: str) -> None:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    if tab:
        app.query_params["tab"] = tab
    if page != "home":
        app.switch_page(f"pages/{page}.py")
    app.run()
    assert not app.exception
    for index in range(len(app.number_input)):
        if index >= len(app.number_input):  # a number that was set may close a part of the page
            break
        field = app.number_input[index]
        if field.disabled:
            continue
        wanted, label = another(field), field.label
        field.set_value(wanted)
        for _ in range(2):
            app.run()
            assert not app.exception, f"{page}: {label} set to {wanted}: {app.exception[0].value}"
