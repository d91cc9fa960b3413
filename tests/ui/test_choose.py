"""The page Choose a method, through the app, and the pictures of the tree."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.advise.recommend import recommend
from peft_lab.advise.situation import Situation
from peft_lab.advise.tree import places
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.ui.choose import page as tree
from peft_lab.ui.choose.outcome import page_with
from peft_lab.ui.components import plan_steps
from tests.advise import standin
from tests.ui.test_pages import opened as counted
from tests.waits import SECONDS

ROOT = Path(__file__).parents[2]
WAITING = ("Simulating training steps", "Changing one answer", "Running…")


def opened(page: str, **address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    for name, value in address.items():
        app.query_params[name] = value
    app.switch_page(f"pages/{page}.py")
    app.run()
    return settled(app)


def settled(app: AppTest) -> AppTest:
    """A page does not wait long for a process; a browser draws it again by itself."""
    until = time.monotonic() + SECONDS
    while any(text in told(app) for text in WAITING) and time.monotonic() < until:
        time.sleep(0.2)
        app.run()
    assert not app.exception
    return app


def told(app: AppTest) -> str:
    return "\n".join(element.value for element in app.markdown)


def method(app: AppTest) -> str:
    return next(line.removeprefix("## ") for line in told(app).split("\n") if line.startswith("## "))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "typed", "kept_as"),
    [
        ("row_tokens", 700, 700),
        ("latency", 5.0, 5.0),
        ("storage", 50.0, 50e6),
    ],
)
def test_a_number_that_was_open_is_typed_and_stays(name: str, typed: float, kept_as: float) -> None:
    app = opened("choose")
    field = next(one for one in app.number_input if one.key and one.key.split(".")[-1] == name)
    assert field.value is None
    field.set_value(typed)
    app.run()
    settled(app)
    app.run()  # a page that is drawn again shows what was typed before
    assert not app.exception
    field = next(one for one in app.number_input if one.key and one.key.split(".")[-1] == name)
    assert field.value == typed
    written = app.query_params[name]
    sent = written if isinstance(written, str) else written[0]
    assert float(sent) == kept_as
    again = opened("choose", **{name: sent})
    assert (
        next(one for one in again.number_input if one.key and one.key.split(".")[-1] == name).value == typed
    )


def test_the_first_situation_is_answered_with_reasons_and_flips() -> None:
    app = opened("choose")
    assert method(app) == "LoRA"
    for heading in ("Why", "What is not known", "What would change the answer"):
        assert f"### {heading}" in told(app)
    folded = {each.label.partition(":")[0] for each in app.expander}
    assert {"How this was decided", "The recipe"} <= folded
    links = [link.proto for link in app.get("page_link")]
    assert {"runs", "compare"} <= {link.page for link in links}
    assert app.button(key="choose-next").label == "See whether it fits"
    assert "simulated" in told(app)
    assert "A card sold as less than" in told(app)
    [settings] = [found.proto.body for found in app.get("html") if "lora_alpha" in found.proto.body]
    plain = settings.replace("\N{NON-BREAKING HYPHEN}", "-")
    cells = [re.sub("<[^>]+>", "", row) for row in plain.split("</tr>")]
    [rate] = [row for row in cells if row.startswith("learning rate")]
    assert rate == "learning rate2e-42.5e-5 to 2e-3QLoRA, LoRA Without Regret and 2 more"
    assert any(row.startswith("r168 to 256LoRA Without Regret") for row in cells)
    assert '</td><td data-label="Value"></td>' not in settings, "a setting without a value"
    [sources] = [found.proto.body for found in app.get("html") if "Measured on" in found.proto.body]
    assert "arXiv:2305.14314, as others quote it" in sources and "LLaMA 7B to 65B in 4 bits" in sources
    assert "Keep the highest rate" in "".join(found.proto.body for found in app.get("html"))


def steps(app: AppTest) -> dict[str, str]:
    """The bar of steps: each page's link with its answer."""
    links = [link.proto for link in app.get("page_link")]
    return {link.page: link.label for link in links if link.page in plan_steps.STEPS}


@pytest.mark.slow
def test_the_three_steps_answer_one_situation() -> None:
    app = opened("choose", seq="1024")
    first = steps(app)
    assert list(first) == list(plan_steps.STEPS)
    assert "LoRA" in first["choose"] and re.search(r"yes, [\d.]+ of 24\.7 GB", first["memory"])
    assert "min" not in first["plan"], "nothing waits for what is not known"
    app.switch_page("pages/memory.py").run()
    app.run()
    assert not app.exception
    assert next(box for box in app.selectbox if box.label == "Model").value == "llama-3.2-3b"
    assert next(box for box in app.number_input if "okens" in box.label).value == 1024
    assert steps(app)["memory"].endswith(first["memory"].partition("**")[2].partition("**")[2])


def test_every_answer_is_in_the_address_and_the_address_gives_them_back() -> None:
    app = opened("choose", model="bert-base", device="t4", tasks="30", latency="0")
    assert method(app) == "BitFit"
    assert app.number_input(key="choose.0.tasks").value == 30
    app.number_input(key="choose.0.latency").set_value(50.0)
    settled(app.run())
    assert method(app) == "Adapters"
    expected = {"model": "bert-base", "device": "t4", "tasks": "30", "latency": "50"}
    assert dict(app.query_params) == expected
    app.selectbox(key="choose.0.serving").set_value("vllm")
    settled(app.run())
    assert method(app) == "LoRA"
    assert dict(app.query_params) == {**expected, "serving": "vllm"}


def test_a_flip_can_be_tried() -> None:
    app = opened("choose")
    flip = next(button for button in app.button if "→" in button.label and "prompt" in button.label)
    wanted = re.search(r"→ \*\*(.+?)\*\*", flip.label)
    assert wanted is not None
    flip.click()
    settled(app.run())
    assert method(app) == wanted[1]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"device": "abacus"}, "no device called 'abacus'"),
        ({"rows": "lots"}, "'lots'"),
        ({"model": "gpt-5"}, "gpt-5"),
        ({"model": "bert-base", "output": "generation"}, "writes no text"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(address: dict[str, str], message: str) -> None:
    app = opened("choose", **address)
    assert any(message in line and line.startswith(":red[") for line in told(app).split("\n"))


@pytest.mark.further
@pytest.mark.rest
def test_the_configuration_opens_on_the_methods_page() -> None:
    app = opened("choose", rows="200000", device="t4", model="llama-3.2-1b", storage="900000000")
    link = next(
        re.search(r"\[as a link\]\((.+?)\)", line) for line in told(app).split("\n") if "as a link" in line
    )
    assert link is not None
    address = {name: values[0] for name, values in parse_qs(urlparse(link[1]).query).items()}
    page = urlparse(link[1]).path
    spec = get_method(page)
    shape = get_model(address["model"]).shape
    values = {name: spec.knob(name).parse(text) for name, text in address.items() if name != "model"}
    assert spec.require(shape, values)["r"] == values["r"]
    there = counted(page, **address)
    assert f"{spec.formula(shape, spec.complete(shape, values)).trainable:,}" in {
        str(card.value) for card in there.metric
    }


def test_an_empty_setting_survives_the_way_to_the_methods_page() -> None:
    """IA³ on the keys alone has no feed-forward targets: the address has to say so, or the page takes its defaults."""
    situation = Situation(output="classification", storage=250_000, latency=0.0)
    found = recommend(situation, standin.room(situation))
    assert found.plan is not None and found.advice == "ia3-least"
    page, address = page_with(situation, found.method, found.plan)
    assert address["feedforward_modules"] == ""
    assert f"{found.plan.trainable:,}" in {str(card.value) for card in counted(page, **address).metric}


def test_the_picture_shows_every_place_once_and_the_path_lit() -> None:
    lit = tree.lit_places([("prompting", "no"), ("tasks", "one"), ("kind", "causal-lm"), ("base", "four")])
    assert lit == ["prompting", "tasks", "kind", "base", "base.four"]
    drawn = ElementTree.fromstring(tree.tree_picture(lit))
    items = [each for each in drawn.iter() if each.get("role") == "treeitem"]
    assert [each.get("data-place") for each in items] == [place.id for place in places()]
    assert [each.get("data-place") for each in items if each.get("aria-selected") == "true"] == lit
    assert [each.get("tabindex") for each in items].count("0") == 1
    boxes = [each.find("{http://www.w3.org/2000/svg}rect") for each in items]
    corners = {(box.get("x"), box.get("y")) for box in boxes if box is not None}
    assert len(corners) == len(items), "no two boxes in one place"
    assert max(len(text.text or "") for text in drawn.iter("{http://www.w3.org/2000/svg}text")) <= 18, (
        "fits its box"
    )
    assert 'data-place="base.four"' in tree.path_picture(lit)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("key", ["deadline", "deadline_hours"])
@pytest.mark.parametrize(("page", "other"), [("choose", "plan"), ("plan", "choose")])
def test_choose_and_plan_have_one_deadline_whatever_an_address_calls_it(
    key: str, page: str, other: str
) -> None:
    def deadline(app: AppTest) -> str:
        return str(next(box for box in app.text_input if box.label == "Must be done in").value)

    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
    app.query_params[key] = "12"
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception and deadline(app) == "12"
    assert app.query_params["deadline"] in ("12", ["12"]) and "deadline_hours" not in app.query_params
    app.query_params.clear()
    app.switch_page(f"pages/{other}.py").run()
    assert not app.exception and deadline(app) == "12"
