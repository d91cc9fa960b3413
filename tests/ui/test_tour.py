"""The tour through the app: exact settings at every stop, the place kept, a teacher's path made, sent and followed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.interview import tour
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.tour import FIRST, Stop, Tour, newcomer
from peft_lab.ui import pages, state
from peft_lab.ui.foreign import plain
from peft_lab.ui.tour import page as links
from peft_lab.ui.tour.page import DONE, NO_RUN
from tests.conftest import link
from tests.waits import SECONDS

NEWCOMER = newcomer()

ROOT = Path(__file__).parents[2]
LESSON = Tour(
    "A lesson",
    (
        Stop(
            page="lora",
            title="Rank",
            settings={"model": "gpt2", "r": "16"},
            see="![](http://x.test/a.png) *x*",
            fixed=("model", "r"),
        ),
        Stop(page="home", title="Home"),
    ),
)


@pytest.fixture(autouse=True)
def home(own_home: Path) -> None:
    link(own_home)


def opened(page: str, **address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    for name, value in address.items():
        app.query_params[name] = value
    app.switch_page(f"pages/{page}.py")
    return again(app)


def again(app: AppTest) -> AppTest:
    """Draw it once more as on a cold server: AppTest runs a page's file, which then runs the app around it."""
    pages._navigated = False
    app.run()
    assert not app.exception
    return app


def told(app: AppTest) -> str:
    boxes = (*app.success, *app.info, *app.warning, *app.error)
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *boxes))


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label.startswith(label)).click()
    return again(app)


def address_of(app: AppTest) -> dict[str, str]:
    return {name: value[-1] if isinstance(value, list) else value for name, value in app.query_params.items()}


def control(app: AppTest, kind: str, label: str) -> Any:
    return next(widget for widget in getattr(app, kind) if widget.label == label)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("index", range(len(NEWCOMER.stops)), ids=lambda index: NEWCOMER.stops[index].title)
def test_a_stop_opens_with_exactly_its_settings(index: int) -> None:
    stop, where = NEWCOMER.stops[index], links.place_of(FIRST, index)
    app = opened(stop.page, **links.stop_address(stop, where))
    complete, differing = app.session_state[state._COMPLETE], app.session_state[state._DIFFERS]
    assert {name: complete[name] for name in stop.settings} == stop.settings
    assert set(differing) <= set(stop.settings), "nothing else is moved"
    assert "link_off" not in told(app), "every setting could be read"
    assert f"**Stop {index + 1} of {len(NEWCOMER.stops)}**" in told(app)
    of_a_run = stop.title == "What was learned"  # and nothing has been trained
    for text in (NO_RUN,) if of_a_run else (stop.read, stop.move, stop.see):
        assert links.filled_words(stop, text, FIRST) in told(app)
    assert address_of(app) == {**differing, "stop": where}
    assert tour.progress(Learners(), "Me", FIRST).at == index


def test_one_finds_back_from_another_page_and_the_place_survives_a_restart() -> None:
    app = opened("ia3", stop=links.place_of(FIRST, 2))
    assert "You left stop 3" in told(app)
    press(app, "Leave the tour")
    assert "You left" not in told(app)
    assert "stop" not in address_of(app)
    app = opened("tour")
    assert "**1** of 12 stops visited".replace("12", str(len(NEWCOMER.stops))) in told_progress(app)
    assert any(button.label == "Continue at stop 3" for button in app.button)
    press(app, "Start over")
    assert tour.progress(Learners(), "Me", FIRST).at is None
    assert any(button.label == "Start" for button in app.button)


def told_progress(app: AppTest) -> str:
    return "\n".join(bar.proto.text for bar in app.get("progress"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gone.1", "a path that you have not added"),
        ("newcomer.99", f"Choose a stop from 1 to {len(NEWCOMER.stops)}"),
    ],
)
def test_a_stop_that_is_none_is_said(text: str, said: str) -> None:
    assert said in told(opened("home", stop=text))
    places = ("x", "newcomer.0", "newcomer.", "newcomer.1e3", "newcomer.²")
    assert not any(links._find(place, {FIRST: NEWCOMER}) for place in places)


def test_what_the_teacher_has_fixed_is_locked_until_one_goes_on_freely() -> None:
    app = opened(
        "lora", fixed="model,r,lora_alpha", model="gpt2", r="16", lora_alpha="16", lora_dropout="0.1"
    )
    assert "Set by the teacher:** Model, Rank r, Scaling α." in told(app)
    rank = control(app, "select_slider", "Rank r")
    assert (rank.disabled, rank.value) == (True, 16)
    assert control(app, "selectbox", "Model").disabled
    assert not control(app, "slider", "Dropout").disabled
    assert control(app, "button", "Reset").disabled
    # a fixed value is said even where it is the default: defaults may change, a lesson must not
    assert address_of(app)["lora_alpha"] == "16"
    assert address_of(app)["fixed"] == "model,r,lora_alpha"
    press(app, "Unlock these settings")
    assert not control(app, "select_slider", "Rank r").disabled
    assert control(app, "select_slider", "Rank r").value == 16
    assert "fixed" not in address_of(app)


@pytest.mark.slow
def test_any_page_becomes_a_stop_with_all_fixed_or_some_free() -> None:
    app = opened("lora", model="llama-3.2-3b", r="16")
    press(app, "Add to my path")
    free = next(widget for widget in app.multiselect if widget.label == "The class may change")
    free.set_value(["lora_alpha"])
    again(app)
    press(app, "Add to my path")
    all_fixed, some_free = tour.load_draft(Learners(), "Me", pages.titles()).stops
    assert all_fixed.settings["r"] == "16"
    assert all_fixed.settings["model"] == "llama-3.2-3b"
    assert {"r", "model", "task", "lora_alpha", "seed"} <= set(all_fixed.fixed)
    assert "tab" not in all_fixed.fixed
    assert set(all_fixed.fixed) - set(some_free.fixed) == {"lora_alpha"}
    later = opened("lora", **links.stop_address(all_fixed))
    assert {
        name: later.session_state[state._COMPLETE][name] for name in all_fixed.settings
    } == all_fixed.settings


def test_a_path_is_given_words_ordered_and_sent() -> None:
    file = Learners()
    file.create("Me")
    tour.save_draft(file, "Me", LESSON, pages.titles())
    app = opened("teach")
    press(app, "Down")
    assert [stop.title for stop in tour.load_draft(file, "Me", pages.titles()).stops] == ["Home", "Rank"]
    control(app, "text_area", "Change").set_value("Nothing.")
    press(app, "Save the text")
    control(app, "text_input", "Title of the path").set_value("Monday")
    again(app)
    path = tour.load_draft(file, "Me", pages.titles())
    assert (path.title, path.stops[0].move) == ("Monday", "Nothing.")
    sent = again(app).code[0].value
    assert sent.endswith("/tour?path=" + tour.pack_path(path))


def test_a_sent_path_is_shown_taken_in_and_followed() -> None:
    app = opened("tour", path=tour.pack_path(LESSON))
    assert "You received a path" in told(app)
    press(app, "Follow this path")
    assert "## A lesson" in told(app)
    assert "path" not in address_of(app)
    assert LESSON.id in tour.paths(Learners(), "Me", pages.titles())
    stop = LESSON.stops[0]
    first = opened("lora", **links.stop_address(stop, links.place_of(LESSON.id, 0)))
    assert "**Stop 1 of 2**" in told(first)
    assert "![](" not in told(first), "a teacher's words cannot fetch pictures"
    assert plain("![](http://x.test/a.png)") in told(first)
    assert control(first, "select_slider", "Rank r").disabled


def test_a_damaged_path_is_said() -> None:
    app = opened("tour", path=tour.pack_path(LESSON)[:-6])
    assert ":red[:material/link_off: From the address: The path in this link is damaged" in told(app)
    assert "You received a path" not in told(app)


@pytest.mark.slow
def test_a_stop_is_done_with_the_last_of_its_moves() -> None:
    number = next(number for number, stop in enumerate(NEWCOMER.stops, 1) if stop.page == "qlora")
    app = opened("qlora", stop=f"{FIRST}.{number}")
    assert DONE not in told(app) and "of 2 changes" not in told(app)

    def flip() -> str:
        toggle = control(app, "toggle", "Double quantisation")
        toggle.set_value(not toggle.value)
        again(app)
        return told(app)

    off = flip()
    assert "1 of 2 changes" in off and DONE not in off
    on = flip()
    assert DONE in on and "of 2 changes" not in on
    assert DONE in flip()


def row(app: AppTest) -> list[str]:
    """The icons of what the bar tells: what to read and change, or what to see."""
    line = re.compile(r":material/(menu_book|tune|visibility): (?!\*\*(Read|Change|See)\*\*)")
    return [found[1] for each in app.markdown if (found := line.match(each.value))]


def test_what_to_see_comes_once_it_is_done_and_ticks_the_stop() -> None:
    stop = NEWCOMER.stops[1]
    app = opened("lora", **links.stop_address(stop, links.place_of(FIRST, 1)))
    assert row(app) == ["menu_book", "tune"] and not any(button.key == "tour-done" for button in app.button)
    control(app, "select_slider", "Rank r").set_value(16)
    assert row(again(app)) == ["visibility"]
    first = opened("home", stop=links.place_of(FIRST, 0))  # no control of the page tells when this is done
    next(button for button in first.button if button.key == "tour-done").click()
    assert row(again(first)) == ["visibility"] and not any(
        button.key == "tour-done" for button in first.button
    )
    assert tour.progress(Learners(), "Me", FIRST).done == {0, 1}
    links_of_stops: list[Any] = list(opened("tour").get("page_link"))
    icons = [link.proto.icon for link in links_of_stops if link.label.startswith("**")]
    assert [icon.strip(":").partition("/")[2] for icon in icons[:3]] == ["check_circle"] * 2 + [
        "radio_button_unchecked"
    ]
