"""The Debug clinic page: a case is worked on without being told, then explained; files are diagnosed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.clinic.cases import Case, all_cases, get_case
from peft_lab.errors import UnknownName
from peft_lab.learners.schedule import Learners
from peft_lab.ui.clinic.progress import solved
from tests.ui.test_choose import opened, told


def everything(app: AppTest) -> str:
    return "\n".join(
        [told(app), *(each.value for each in (*app.code, *app.caption, *app.success, *app.warning))]
    )


@pytest.fixture
def first(own_home: Path) -> Case:
    return all_cases()[0]


def test_a_case_is_shown_without_its_cause_and_explained_after_the_answer(
    first: Case, own_home: Path
) -> None:
    app = opened("clinic")
    assert first.fault.why not in everything(app)
    options = first.options()
    app.radio[0].set_value([each.name for each in options].index(first.fault.name))
    next(each for each in app.button if each.label == "Answer").click()
    app.run()
    assert not app.exception
    assert "Found in" in everything(app) and "with 0 hints" in everything(app)
    assert "Beside a healthy run" in told(app) and first.fault.reference.url in told(app)
    kept = solved(Learners(), "Me")[first.fault.name]
    assert kept["right"] and kept["hints"] == 0


def test_a_hint_says_more_each_time(first: Case) -> None:
    app = opened("clinic")
    for number in range(1, 4):
        next(each for each in app.button if "hint" in each.label.lower()).click()
        app.run()
        assert told(app).count(":material/lightbulb:") == number
    assert not [each for each in app.button if "hint" in each.label.lower()]


def test_the_address_opens_a_case_and_a_wrong_one_is_said(own_home: Path) -> None:
    app = opened("clinic", case="3")
    assert app.selectbox[0].value == 3
    assert "There is no case called '999'" in told(opened("clinic", case="999"))


def test_a_log_of_ones_own_is_diagnosed(own_home: Path) -> None:
    app = opened("clinic", tab="own")
    config = json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 0}).encode()
    app.file_uploader[0].upload("adapter_config.json", config, "application/json")
    app.run()
    assert "lora\\_alpha is 0" in told(app)


def test_every_case_has_both_runs_and_can_be_told_from_the_healthy_one() -> None:
    cases = all_cases()
    assert len({case.fault.name for case in cases}) == len(cases)
    for case in cases:
        assert case.fault in case.options() and len(case.options()) == len(set(case.options()))
        assert len(case.hints()) == 3 and case.fault.title in case.hints()[2]
        assert case.faulty != case.healthy, case.fault.name
        assert case.packages["peft"] and case.made
    with pytest.raises(UnknownName):
        get_case("0")


def test_cases_are_small() -> None:
    folder = Path(__file__).parents[2] / "peft_lab/clinic/shown"
    assert sum(file.stat().st_size for file in folder.glob("*.json")) < 1_500_000
