"""Export: a method's file from scratch, and the lines of a part that is chosen there or in the block drawing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from peft_lab.ui.method.scratch import FILES, lines_of, runs_of
from peft_lab.ui.pages import method_pages
from tests.ui.test_take_away import checked
from tests.waits import SECONDS

SHOWN = sorted({file.page for file in FILES.values()})


def test_every_method_page_shows_its_file_first() -> None:
    assert sorted(method_pages()) == SHOWN
    for slug in SHOWN:
        assert next(name for name, file in FILES.items() if file.page == slug) == slug


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
        from tests.ui.test_scratch import choice_of

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
