"""Tabs stay the same tabs while they are clicked through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.ui import pages
from peft_lab.ui.method.tabs import EXPORT, MOVED, PARTS, TITLES, named
from tests.conftest import link
from tests.ui.test_pages import opened, told

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
def test_where_no_run_has_ended_a_button_leads_to_the_tab_that_starts_one(own_home: Path) -> None:
    link(own_home)
    app = opened("prompt", tab="inside")
    assert any("Recorded run" in each.value for each in app.markdown)
    next(button for button in app.button if button.label == "Open Train").click().run()
    assert app.query_params["tab"] in ("train", ["train"])


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


def test_a_return_to_the_page_starts_at_the_tab_last_open() -> None:
    back = AppTest.from_string(SCRIPT)
    back.session_state["settings"] = {"page": {"tab": "Three"}}
    back.session_state["first-defaults"] = {"page.0.tabs": "Two"}  # of a visit that Streamlit has forgotten
    assert [text.value for text in back.run().markdown] == ["drawn Three"]
