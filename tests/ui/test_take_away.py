"""Export: interview questions on the method of the page, about the model that is chosen there."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab import takeaway
from peft_lab.core.errors import BadInput, SimulationError
from peft_lab.interview.bank import all_questions
from peft_lab.interview.question import LEVELS
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import catalogue, get_model, readers_of_text
from peft_lab.ui import pages
from peft_lab.ui.method import idea
from peft_lab.ui.method.idea import chosen_questions
from peft_lab.ui.method.scratch import FILES
from peft_lab.ui.pages import method_pages
from peft_lab.ui.practice import answering
from peft_lab.ui.practice.learner import topic_title
from tests.prose import says
from tests.waits import SECONDS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("own_home")


def opened(slug: str, **address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    for name, value in (address | {"tab": "export"}).items():
        app.query_params[name] = value
    app.switch_page(f"pages/{slug}.py")
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    assert not app.exception
    return app


def told(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption))


def answers(app: AppTest) -> list[str]:
    """What the folded answers say."""
    folded = [each for each in app.expander if each.label == "Answer"]
    return ["\n".join(element.value for element in each.markdown) for each in folded]


@pytest.mark.parametrize("slug", method_pages())
def test_every_method_asks_one_question_a_level_with_its_answer_folded(slug: str) -> None:
    app = opened(slug)
    assert FILES[slug].text.strip() in [element.value for element in app.code]
    model = str(app.selectbox[0].value)
    asked = chosen_questions(all_methods()[slug], catalogue()[model])
    assert tuple(question.level for question, _ in asked) == LEVELS
    shown = answers(app)
    assert len(shown) == len(asked)
    for (question, about), answer in zip(asked, shown, strict=True):
        assert question.topic == slug
        assert question.ask(about) in told(app)
        assert question.explain(question.compute(about), about) in answer
        assert "### Model answer" in answer
        counted = question.computed and question.compute(about).unit == "parameters"  # type: ignore[union-attr]
        assert "[counted]" in answer or not counted
        assert "[cited]" in answer or question.computed
    assert says(told(app), all_methods()[slug].title)


def test_long_code_is_whole_and_says_how_long_it_is() -> None:
    for slug, model in (("lora", "smollm2-135m"), ("prompt", "smollm2-135m")):
        app = opened(slug, model=model)
        code = app.code[0].value
        assert code == takeaway.config_code(all_methods()[slug], get_model(model), {}).strip()
        lines = f"{code.count(chr(10)) + 1} lines"
        assert any(element.value.startswith(lines) for element in app.caption) == (slug == "prompt")


def test_the_code_on_the_page_has_the_head_of_the_chosen_task() -> None:
    for task, kind, labels in (("tags", "TOKEN_CLS", 11), ("sentiment", "SEQ_CLS", 2)):
        code = opened("lora", model="minilm-l6", task=task).code[0].value
        assert f'task_type="{kind}"' in code and f"num_labels={labels}" in code


def test_settings_that_cannot_be_written_say_why_and_leave_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*settings: object) -> str:
        raise BadInput("'Odd' is not part of PEFT's LoraConfig.", "odd")

    monkeypatch.setattr(takeaway, "config_code", refused)
    app = opened("lora")
    assert "PEFT" in app.error[0].value and len(answers(app)) == len(LEVELS)


@pytest.mark.parametrize("slug", method_pages())
@pytest.mark.parametrize("model", readers_of_text())
def test_questions_that_fit_the_model_are_computed_for_it(slug: str, model: str) -> None:
    spec = all_methods()[slug]
    for question, about in chosen_questions(spec, get_model(model)):
        others = [
            other
            for other in all_questions().values()
            if (other.topic, other.level) == (slug, question.level)
        ]
        if any(other.computed and other.accepts(model) for other in others):
            assert question.computed and about == model
        else:
            assert about is None or not question.computed
        question.ask(about)
        question.explain(question.compute(about), about)


def test_of_a_model_of_images_nothing_is_asked() -> None:
    asked = chosen_questions(all_methods()["lora"], get_model("dinov2-small"))
    assert asked and all(about is None for _, about in asked)


def test_a_choice_shows_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = next(each for each in all_questions().values() if each.topic == "ia3" and each.kind == "choice")
    monkeypatch.setattr(idea, "select", lambda topic, level: [choice] if choice.level in level else [])
    app = opened("ia3")
    assert all(option in told(app) for option in choice.choices())


def test_a_model_outside_the_catalogue_leaves_questions_to_their_own_models() -> None:
    """Reading it would import torch into the web server."""
    entry = replace(get_model("minilm-l6"), name="somebody/their-model")
    asked = chosen_questions(all_methods()["lora"], entry)
    assert len(asked) == len(LEVELS) and all(about is None for _, about in asked)


def test_an_answer_that_takes_long_does_not_hold_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def slow(question: object, model: str | None) -> Future[None]:
        asked.append(str(model))
        return Future()

    monkeypatch.setattr(answering, "ask_solution", slow)
    app = opened("lora")
    assert len(asked) == len(LEVELS) and answers(app) == ["Computing the answer…"] * len(LEVELS)


def test_an_answer_that_cannot_be_had_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(question: object, model: str | None) -> None:
        raise SimulationError("no room")

    monkeypatch.setattr(answering, "ask_solution", broken)
    said = answers(opened("lora"))
    assert len(said) == len(LEVELS) and all(":red[" in one and "no room" in one for one in said)


def test_the_button_leads_to_practice_with_topic_and_model() -> None:
    app = opened("adapters", model="minilm-l6")
    checked(app.button(key="practise-adapters").click().run())
    assert app.title[0].value == pages.titles()["practice"]
    chosen = {box.label: box.value for box in app.selectbox}
    assert chosen["Topic"] == "adapters" and chosen["Model"] == "minilm-l6" and chosen["Level"] == ""
    assert topic_title("adapters") in told(app)


def test_the_button_leads_there_although_practice_was_open_with_another_topic() -> None:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    app.query_params["topic"] = "lora"
    app.query_params["level"] = "hard"
    app.switch_page("pages/practice.py")
    checked(app.run())
    app.switch_page("pages/bitfit.py")
    app.query_params["tab"] = "export"
    checked(app.run())
    checked(app.button(key="practise-bitfit").click().run())
    chosen = {box.label: box.value for box in app.selectbox}
    assert chosen["Topic"] == "bitfit" and chosen["Level"] == ""
