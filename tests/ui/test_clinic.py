"""The Debug clinic page: a case is worked on without being told, then explained; files are diagnosed."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.core.errors import UnknownName
from peft_lab.interview.clinic.faults import MOMENTS, ClinicCase, all_cases, all_faults, get_case
from peft_lab.interview.learners.schedule import Learners
from peft_lab.ui.clinic import solved
from tests.ui.test_choose import opened, told
from tools.clinic_made.faults import SPOILS
from tools.clinic_made.in_use import USED
from tools.make_clinic import UNSHOWN


def everything(app: AppTest) -> str:
    return "\n".join(
        [told(app), *(each.value for each in (*app.code, *app.caption, *app.success, *app.warning))]
    )


@pytest.fixture
def first(own_home: Path) -> ClinicCase:
    return all_cases()[0]


def test_a_case_is_shown_without_its_cause_and_explained_after_the_answer(
    first: ClinicCase, own_home: Path
) -> None:
    app = opened("clinic")
    assert first.fault.why not in everything(app)
    options = first.options()
    app.radio[0].set_value([each.name for each in options].index(first.fault.name))
    next(each for each in app.button if each.label == "Answer").click()
    app.run()
    assert not app.exception
    assert "hints: 0" in everything(app)
    assert "Comparison with a healthy run" in told(app) and first.fault.reference.url in told(app)
    for moment, lines in first.fault.code.items():
        assert lines in everything(app) and MOMENTS[moment] in everything(app).replace("\\", "")
    kept = solved(Learners(), "Me")[first.fault.name]
    assert kept["right"] and kept["hints"] == 0


def test_a_hint_says_more_each_time(first: ClinicCase) -> None:
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


def test_no_case_gives_its_fault_away() -> None:
    """No two words of its title stand together in what is shown, no field is the fault itself, and faults that look
    alike are among the choices."""

    def words(text: str) -> list[str]:
        return [
            word for word in re.findall(r"[a-z0-9_]+", text.lower()) if word not in ("the", "is", "a", "of")
        ]

    for case in all_cases():
        shown = case.faulty
        fields = [f"{name} {value}" for name, value in {**shown.config, **shown.arguments}.items()]
        said = {pair for line in (*shown.console, *fields) for pair in itertools.pairwise(words(line))}
        assert not said & set(itertools.pairwise(words(case.fault.title))), case.fault.name
        assert "lora_alpha" not in {*shown.config, *shown.arguments}
        assert {case.fault.name, *case.fault.like} <= {fault.name for fault in case.options()}
    alike = {name: fault.like for name, fault in all_faults().items() if fault.like}
    assert {"alpha-zero", "fp16-unscale", "warm-up-too-long"} <= alike.keys()


def test_every_fault_with_a_case_of_its_own_is_shown() -> None:
    assert {*SPOILS, *USED} - set(UNSHOWN) == {case.fault.name for case in all_cases()}
