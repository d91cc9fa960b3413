"""The page Myths, through the app: a guess before each verdict, its record, filters, old addresses."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.interview import claims
from peft_lab.interview.claims import VERDICTS, all_claims, get_claim
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.predictions import all_predictions
from peft_lab.interview.tour import Tour
from peft_lab.ui import pages
from peft_lab.ui.myths import page as myths
from peft_lab.ui.myths.checked import verdict_of
from peft_lab.ui.myths.page import MythForm
from peft_lab.ui.shell.dress import Dress
from tests.ui.test_choose import opened, told

pytestmark = pytest.mark.usefixtures("own_home")


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception
    return app


def guess(app: AppTest, option: int, sure: int) -> AppTest:
    app.radio[0].set_value(option)
    app.slider[0].set_value(sure)
    return press(app, "Check my guess")


def test_every_claim_and_belief_is_listed_once() -> None:
    assert not set(all_claims()) & set(all_predictions())
    assert MythForm().select() == [*all_claims(), *all_predictions()]


def test_no_verdict_is_told_before_a_guess_and_the_guess_is_kept() -> None:
    app = opened("myths", claim="ia3-share")
    claim = get_claim("ia3-share")
    assert claim.on().found[1:] not in told(app)
    right = VERDICTS.index(verdict_of(claim) or "wrong")
    guess(app, (right + 1) % 3, 80)
    assert claim.on().found[1:] in told(app)
    assert f"The claim is {VERDICTS[right]}" in told(app)
    (kept,) = Learners().results("Me", myths.KIND)
    assert kept.content == {
        "id": "ia3-share", "guess": (right + 1) % 3, "right": right, "correct": False, "sure": 80,
    }  # fmt: skip
    assert claim.on().found[1:] in told(opened("myths", claim="ia3-share")), "in a later session too"


def test_the_list_says_what_was_guessed_and_what_is_so() -> None:
    app = opened("myths", claim="ia3-share")
    truth = verdict_of(get_claim("ia3-share")) or "wrong"
    wrong = (VERDICTS.index(truth) + 1) % 3
    guess(app, wrong, 80)
    (known,) = myths.judged(Learners(), "Me").values()
    row = myths._entry("ia3-share", known)
    assert row.kinds == ("wrong",) and row.cells[0].endswith(f"\nyou: {VERDICTS[wrong]} · it is {truth}")
    bar = next(one.proto.body for one in app.get("html") if "myths-bar" in one.proto.body)
    assert re.findall(r"flex:(\d+)", bar) == ["0", "1", str(len(MythForm().select()) - 1)]


def test_next_leads_through_the_filter_and_the_mistaken_come_back() -> None:
    app = opened("myths", topic="ia3", origin="text")
    names = MythForm(topic="ia3", origin="text").select()
    for name in names:
        assert f"## {get_claim(name).claim}" in told(app)
        right = VERDICTS.index(verdict_of(get_claim(name)) or "wrong")
        guess(app, right if name != names[0] else (right + 1) % 3, 60)
        press(app, "Next claim")
    assert f"## {get_claim(names[0]).claim}" in told(app)
    assert app.radio[0].value is None, "guessed again"


def test_how_sure_one_was_is_compared_with_the_verdicts() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    known = {
        str(number): myths.Judged("right", "right", number < 2, sure, at)
        for number, sure in enumerate((80, 80, 75, 85, 40))
    }
    assert "2 times out of 4" in myths._calibration(known, known["3"])
    assert "times" not in myths._calibration(known, known["4"])


def test_a_verdict_can_be_looked_up_and_says_where_it_is_from() -> None:
    app = press(opened("myths", claim="prompt-minimal-memory"), "Show the verdict")
    found, was_kept = claims.is_settled("prompt-minimal-memory")
    assert re.search(rf"{re.escape(found.found[1:])}\.\*\* :\S+-badge\[simulated\]", told(app))
    assert re.search(rf"{re.escape(found.cited)}\. :\S+-badge\[cited\]", told(app))
    assert was_kept
    assert f"Stored result of {claims.result_seconds()}" in told(app)
    assert any(button.label == "Run it here" for button in app.button)
    other = claims.result_seconds().differing()
    assert all(f"{name} {version}" in told(app) or len(other) > 1 for name, version in other.items())
    assert not Learners().results("Me", myths.KIND), "no guess was made"
    assert "def prompt_minimal_memory" in app.code[0].value


def test_claims_follow_the_model_and_the_filters() -> None:
    app = press(opened("myths", claim="ia3-share", model="bert-base", topic="ia3"), "Show the verdict")
    assert get_claim("ia3-share").on("bert-base").found[1:] in told(app)
    assert get_claim("ia3-share").on("llama-3.2-3b").found[1:] not in told(app)
    wrong = MythForm(verdict="wrong", origin="saying", topic="choosing").select()
    assert wrong and {verdict_of(get_claim(name)) for name in wrong} == {"wrong"}
    assert MythForm(origin="experiment").select() == list(all_predictions())
    assert "ia3-share" in MythForm(find="ia³ parameters").select()
    assert not MythForm(find="no such words").select()


def test_an_address_that_is_wrong_is_told() -> None:
    app = opened("myths", verdict="maybe", claim="moon")
    assert "no verdict called 'maybe'" in told(app)
    assert "no claim called 'moon'" in told(app)


@pytest.mark.parametrize(
    ("old", "query", "now"),
    [
        ("fact_check", "claim=ia3-share&topic=ia3", "myths?claim=ia3-share&topic=ia3"),
        ("misconceptions", "belief=predict-alpha", "myths?claim=predict-alpha"),
        ("practice", "tab=predict&topic=lora&level=basic", "myths?topic=lora"),
        ("practice", "tab=interview", ""),
        ("myths", "claim=ia3-share", ""),
    ],
)
def test_old_addresses_lead_to_the_new_place(old: str, query: str, now: str) -> None:
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        sent.append("drawn")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": f"/base/{old}", "query_string": query.encode(),
        "headers": [(b"accept", b"text/html")],
    }  # fmt: skip
    asyncio.run(Dress(inner)(scope, None, send))  # type: ignore[arg-type]
    if not now:
        assert sent == ["drawn"]
    else:
        assert dict(sent[0]["headers"])[b"location"] == now.encode() and sent[0]["status"] == 307


def test_stops_of_an_older_path_open_the_new_page() -> None:
    stops = [
        {"page": "fact_check", "title": "a", "settings": {"claim": "ia3-share"}},
        {"page": "misconceptions", "title": "b", "settings": {"belief": "predict-alpha"}},
        {
            "page": "practice",
            "title": "c",
            "settings": {"tab": "predict", "topic": "lora"},
            "fixed": ["topic"],
        },
        {"page": "practice", "title": "d", "settings": {"topic": "lora"}, "fixed": ["topic"]},
    ]
    read = Tour.from_dict({"title": "t", "stops": stops}, pages.titles()).stops
    assert [(stop.page, dict(stop.settings)) for stop in read] == [
        ("myths", {"claim": "ia3-share"}), ("myths", {"claim": "predict-alpha"}), ("myths", {"topic": "lora"}),
        ("practice", {"topic": "lora"}),
    ]  # fmt: skip


def test_the_old_scripts_are_gone() -> None:
    scripts = {path.stem for path in Path(pages.folder()).glob("*.py")}
    assert "myths" in scripts and not scripts & {"fact_check", "misconceptions"}
