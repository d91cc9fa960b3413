"""What changed since: every method tells its discoveries, with what was seen here, and the way to see more."""

from __future__ import annotations

import pytest

from peft_lab.engine import published
from peft_lab.interview import since
from peft_lab.methods import all_methods
from tests.ui.test_pages import opened, told

PLACE = {"tab": "experiments", "part": "what changed since"}
pytestmark = pytest.mark.weights


@pytest.mark.sampled(4)
@pytest.mark.parametrize("slug", [slug for slug in all_methods() if slug != "full"])
def test_each_is_told_with_its_source_and_one_thing_to_see(slug: str) -> None:
    app = opened(slug, **PLACE)
    assert not app.exception
    shown = told(app)
    titles = [each.label for each in app.expander]
    keys = {str(button.key) for button in app.button}
    tables = "\n".join(element.proto.body for element in app.get("html"))
    for discovery in since.of_method(slug):
        assert f"**{discovery.title}**" in titles and discovery.said in shown and discovery.follows in shown
        assert discovery.address in shown
        assert (f"lab-{discovery.id}" in keys) == (discovery.opens is not None)
        for name in discovery.rows:
            assert f"{100 * published.rows()[name].accuracy:.1f}%" in tables


@pytest.mark.slow
def test_it_leads_to_another_tab_of_the_same_page_and_keeps_the_knobs() -> None:
    app = opened("lora", **PLACE, r="4")
    app.button(key="lab-lora-since-intruders").click().run()
    assert not app.exception
    assert app.query_params["tab"] in ("inside", ["inside"]) and "part" not in app.query_params
    assert app.query_params["r"] in ("4", ["4"])
