"""Walking the decision tree by the keyboard, on a phone, and into a method's page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import in_address, settled, visit

PHONE = {"viewport": {"width": 390, "height": 844}}
TABS = 60
# the tree's own root, wherever the component keeps it
IN_TREE = """() => {
  const deep = (node) => node?.shadowRoot?.activeElement ? deep(node.shadowRoot.activeElement) : node;
  return deep(document.activeElement)?.dataset?.place ?? null;
}"""
# the first step's left edge, and again while what kept the bar's room is not known as that: its script may come late
_ROOM_COMES_LATE = """() => {
  const step = document.querySelector('[class*="st-key-plan-step-"]'), left = () => step.getBoundingClientRect().x;
  const kept = document.querySelector('.st-key-plan-steps .kept'), before = left();
  kept.classList.remove('kept');
  const late = left();
  kept.classList.add('kept');
  return [before, late];
}"""


def recommended(page: Page, title: str) -> None:
    settled(page)
    expect(page.get_by_role("heading", name=title, exact=True, level=2)).to_be_visible()
    settled(page)


def press(page: Page, *keys: str) -> str:
    for key in keys:
        page.keyboard.press(key)
    return str(page.evaluate(IN_TREE))


@pytest.mark.slow
def test_the_tree_by_keyboard_and_what_it_led_to(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/choose")
    recommended(page, "LoRA")
    before, late = page.evaluate(_ROOM_COMES_LATE)
    assert before == late > 0, "the three steps stay where they are"
    page.get_by_text("How this was decided").click()
    for _ in range(TABS):
        if press(page, "Tab") == "text-rows.some":
            break
    assert page.evaluate(IN_TREE) == "text-rows.some", "Tab leads to the end of the lit path"
    assert press(page, "ArrowLeft", "ArrowLeft") == "objective"
    assert press(page, "ArrowRight") == "text-rows", "along the lit path"
    assert press(page, "ArrowUp") == "objective.preference"
    page.keyboard.press("Enter")
    recommended(page, "LoRA")
    in_address(page, "objective=preference")
    assert page.evaluate(IN_TREE) == "objective.preference", "the focus stays where it was"
    assert press(page, "Home") == "prompting"
    press(page, "ArrowRight", "ArrowUp", "ArrowUp")
    page.keyboard.press("Enter")
    recommended(page, "Prompting, no training")
    in_address(page, "prompting=yes")
    # from the first example on, the configuration opens on the method's page
    page.get_by_role("button", name="Start over").click()
    recommended(page, "LoRA")
    page.get_by_text("The recipe").click()
    expect(page.get_by_role("button", name="Open LoRA with this")).to_be_visible()
    settled(page)  # a press while the page is drawn again may be lost
    page.get_by_role("button", name="Open LoRA with this").click()
    expect(page.locator("h1")).to_have_text("LoRA")
    settled(page)
    in_address(page, "target_modules=all-linear")
    in_address(page, "r=16")
    expect(page.get_by_text("24,313,856").first).to_be_visible()


# labels and values of the form's fields of which a part cannot be seen
_CUT = """() => [...document.querySelectorAll('.st-key-situation :is(label p, input, [data-baseweb="select"] div)')]
  .filter((it) => it.clientWidth > 0 && it.scrollWidth > it.clientWidth + 1)
  .map((it) => it.textContent || it.value)"""


@pytest.mark.sampled(4)  # the narrowest
@pytest.mark.parametrize(
    "page", [{"viewport": {"width": width, "height": 900}} for width in (390, 768, 1280, 1920)], indirect=True
)
def test_the_form_stands_beside_the_answer_and_shows_its_fields_whole(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/choose?rows=9999999&tasks=20&latency=5&prompting=retrieval")
    expect(page.get_by_role("spinbutton", name="Training rows")).to_have_value("9999999")
    form = page.locator(".st-key-situation")
    expect(form.get_by_role("spinbutton", name="Extra latency allowed, %")).to_be_visible()
    assert page.evaluate(_CUT) == []
    size = page.viewport_size
    for field in form.locator("input").all():
        box = field.bounding_box()
        assert box is not None and size is not None
        assert box["width"] >= 60 and box["x"] + box["width"] <= size["width"]
    recommended(page, "Retrieval, no training")
    beside, answer = form.bounding_box(), page.locator(".st-key-choose-verdict").bounding_box()
    assert beside is not None and answer is not None and size is not None
    assert answer["y"] + answer["height"] < 600, "above the fold at every width"
    assert (beside["x"] + beside["width"] <= answer["x"]) == (size["width"] >= 900)


def test_a_guess_about_a_claim_gets_its_verdict(page: Page, app_url: str) -> None:
    visit(page, f"{app_url}/fact_check?claim=ia3-share&topic=ia3")
    in_address(page, "/myths?")
    verdict = page.get_by_text("The claim is ")
    expect(page.get_by_role("radiogroup", name="Your guess")).to_be_visible()
    expect(verdict).to_have_count(0)
    page.get_by_role("radiogroup", name="Your guess").get_by_text("wrong").click()
    page.get_by_role("button", name="Check my guess").click()
    expect(verdict).to_be_visible()
    expect(page.get_by_role("button", name="Next claim")).to_be_visible()
    settled(page)
    page.get_by_text("Filters").click()
    settled(page)
    page.get_by_label("Check on").click()
    page.get_by_role("option", name="BERT-base (uncased)").click()
    settled(page)
    expect(page.get_by_text("On BERT-base (uncased):")).to_be_visible()
    in_address(page, "model=bert-base")
