"""Export: questions on the method of the page about its model, and its file from scratch with the lines of a part."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.interview.bank import all_questions
from peft_lab.interview.question import LEVELS
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import catalogue, get_model, readers_of_text
from peft_lab.ui.method.idea import chosen_questions
from peft_lab.ui.method.scratch import FILES, lines_of, runs_of
from peft_lab.ui.pages import method_pages
from peft_lab.ui.practice import answering
from tests.prose import says
from tests.waits import SECONDS

ROOT = Path(__file__).parents[2]


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


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("own_home")
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


@pytest.mark.usefixtures("own_home")
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


@pytest.mark.usefixtures("own_home")
def test_a_model_outside_the_catalogue_leaves_questions_to_their_own_models() -> None:
    """Reading it would import torch into the web server."""
    entry = replace(get_model("minilm-l6"), name="somebody/their-model")
    asked = chosen_questions(all_methods()["lora"], entry)
    assert len(asked) == len(LEVELS) and all(about is None for _, about in asked)


@pytest.mark.usefixtures("own_home")
def test_an_answer_that_takes_long_does_not_hold_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def slow(question: object, model: str | None) -> Future[None]:
        asked.append(str(model))
        return Future()

    monkeypatch.setattr(answering, "ask_solution", slow)
    app = opened("lora")
    assert len(asked) == len(LEVELS) and answers(app) == ["Computing the answer…"] * len(LEVELS)


@pytest.mark.usefixtures("own_home")
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


SHOWN = sorted({file.page for file in FILES.values()})


@pytest.mark.parametrize("name", FILES)
def test_every_part_has_lines_and_they_say_it(name: str) -> None:
    file = FILES[name]
    rows = file.text.splitlines()
    for part, names in file.parts.items():
        lines = lines_of(file.text, names)
        assert lines and len(lines) < len(rows) / 2, part
        text = "\n".join(rows[line - 1] for line in lines)
        assert all(name in text for name in names), part
    assert set(file.drawn.values()) <= set(file.parts)


def test_every_kind_of_part_that_a_method_draws_is_a_part_of_its_file() -> None:
    for slug in SHOWN:
        shape = get_model("minilm-l6" if slug == "bitfit" else "smollm2-135m").shape
        spec = all_methods()[slug]
        assert {part.kind for part in spec.parts(shape, spec.require(shape, {}))} <= set(FILES[slug].drawn)


def test_lines_are_those_of_names_and_of_whole_functions() -> None:
    text = "import a\n\n\ndef f(B):\n    x = B.A\n    return x\n\n\n# A\ny = f(A)\n"
    assert lines_of(text, ["A"]) == [5, 10]
    assert lines_of(text, ["f"]) == [4, 5, 6, 10]
    assert lines_of(text, ["B"]) == [4, 5]
    assert list(runs_of([4, 5, 6, 10])) == [(4, 6), (10, 10)]


def lit(app: AppTest) -> str:
    found: list[Any] = list(app.get("html"))
    return next(element.value for element in found if "st-key-scratch" in element.value)


def buttons(app: AppTest, first: str) -> Any:
    found: list[Any] = list(app.get("button_group"))
    return next(one for one in found if one.options[0] == first)


def choice_of(slug: str) -> Any:
    entry, spec = get_model("smollm2-135m"), all_methods()[slug]
    return SimpleNamespace(spec=spec, shape=entry.shape, values=spec.require(entry.shape, {}))


def drawn(slug: str, path: str = "") -> AppTest:
    """Export's part with the files, after a part of the drawing was chosen."""

    def page(slug: str, path: str) -> None:
        from peft_lab.ui.method.scratch import from_scratch
        from tests.ui.test_take_away import choice_of

        from_scratch(choice_of(slug), path)

    return checked(AppTest.from_function(page, args=(slug, path), default_timeout=SECONDS).run())


def test_a_chosen_part_lights_its_lines() -> None:
    app = drawn("lora")
    assert app.code[0].value == FILES["lora"].text.strip() and "linear-gradient" not in lit(app)
    buttons(app, "W0").set_value("A")
    checked(app.run())
    rows = list(runs_of(lines_of(FILES["lora"].text, ["A"])))
    assert lit(app).count("linear-gradient") == len(rows)
    assert all(f" {a - 1}lh / 100% {b - a + 1}lh" in lit(app) for a, b in rows)
    buttons(app, "lora").set_value("blend")
    checked(app.run())
    assert app.code[0].value == FILES["blend"].text.strip() and "linear-gradient" not in lit(app)


@pytest.mark.parametrize("slug, kind", [("qlora", "quantised"), ("ia3", "gate"), ("adapters", "bottleneck")])
def test_a_part_chosen_in_the_drawing_is_lit_at_first(slug: str, kind: str) -> None:
    choice = choice_of(slug)
    path = next(part.at for part in choice.spec.parts(choice.shape, choice.values) if part.kind == kind)
    lines = lines_of(FILES[slug].text, FILES[slug].parts[FILES[slug].drawn[kind]])
    assert f" {lines[0] - 1}lh" in lit(drawn(slug, path))
