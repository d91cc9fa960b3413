"""The bank's files: a question is read with all that belongs to it, and each kind of mistake is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.core.content import ContentError
from peft_lab.core.references import LORA, PEFT
from peft_lab.core.units import Source
from peft_lab.interview import calculations
from peft_lab.interview.bank import FOLDER, all_questions, mistakes, read_questions
from peft_lab.interview.computed import Case
from peft_lab.interview.question import gated, room_for, topics
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model

WHOLE = """\
- id: lora-one
  level: basic
  kind: numeric
  model: llama-3.2-3b
  fits: room_for(2048)
  question: How large are A and B of {{q_name}} in {{model}} at r = {{r}}?
  answer: '{{value}}: {{share}} of it.'
  listen for:
    - both factors
  wrong:
    - 'no'
  calculate: one_map
  given: {r: 16}
  origin: counted
  follow ups:
    - question: And of the values?
      answer: '{{value}}.'
      calculate: value_map
      opens: {page: lora, r: 16, target_modules: [v_proj]}
      sources:
        - LORA, section 4.1
    - question: Which of them starts at zero?
      leads to: lora-two
  doubt:
    said: '{{value}}.'
    objection: Twice that.
    should: hold
    because: 'The published LoRA has {{right: lora-rank32}}.'
    sources:
      - PEFT
  sources:
    - LORA, section 4.1

- id: lora-two
  level: hard
  kind: choice
  question: Which one?
  options:
    - text: A
      thought: That both do.
    - text: B
      right: true
  answer: B.
  listen for:
    - B
  wrong:
    - A
  sources:
    - PEFT
"""


def written(folder: Path, text: str, name: str = "lora.starts.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_question_is_read_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    bank = read_questions(written(tmp_path, WHOLE))
    one, two = (question for question, _ in bank.values())
    assert (one.id, one.topic, one.wrong, one.sources) == (
        "lora-one",
        "lora",
        ("no",),
        (f"{LORA}, section 4.1",),
    )
    assert (
        one.calculate is calculations.one_map and one.fits is room_for(2048) and one.origin is Source.COUNTED
    )
    own, leading = one.follow_ups
    assert own.calculate is calculations.value_map and leading.leads_to == two.id
    assert own.opens and (own.opens.page, dict(own.opens.values)) == (
        "lora",
        {"r": 16, "target_modules": ("v_proj",)},
    )
    assert one.doubt and one.doubt.holds and one.doubt.sources == (PEFT,)
    assert "{{" not in one.doubt.because and one.doubt.because.endswith("%.")
    assert two.right_option(None) == 1
    assert mistakes(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("calculate: one_map", "calculate: one_mep", 12),
        ("calculate: value_map", "calculate: result", 18),
        ("room_for(2048)", "roomfor(2048)", 5),
        ("listen for:\n    - both", "listens for:\n    - both", 9),
        ("  level: basic\n", "", 1),
        ("level: basic", "level: easy", 2),
        ("kind: choice", "kind: multiple", 36),
        ("- LORA, section 4.1\n    -", "- LORRA, section 4.1\n    -", 21),
        ("origin: counted", "origin: guessed", 14),
        ("page: lora", "site: lora", 19),
        ("leads to: lora-two", "leads to: lora-three", 23),
        ("leads to: lora-two", "leads to: lora-one", 23),
        ("leads to: lora-two", "answer: A.\n      leads to: lora-two", 22),
        ("id: lora-two", "id: lora-one", 34),
        ("right: lora-rank32", "right: lora-rank33", 28),
        ("right: lora-rank32", "rite: lora-rank32", 28),
        ("should: hold", "should: stay", 27),
        ("      right: true\n", "", 34),
        ("  kind: numeric", "  kind: free", 1),
        ("  options:\n", "  choices:\n", 39),
        ("  question: Which one?", "  question: Which: one?", 37),
    ],
)
def test_a_mistake_is_named_with_its_file_and_line(tmp_path: Path, old: str, new: str, line: int) -> None:
    assert old in WHOLE
    with pytest.raises(ContentError) as caught:
        read_questions(written(tmp_path, WHOLE.replace(old, new, 1)))
    assert caught.value.line == line, caught.value
    assert f"lora.starts.yaml:{line}" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("{{share}}", "{{part}}", 7),
        ("{{q_name}}", "{{rank}}", 6),
        ("objection: Twice that.", "objection: Twice {{that}}.", 26),
        ("model: llama-3.2-3b", "model: llama-3.2-4b", 1),
        ("answer: B.", "answer: '{{value}}.'", 43),
    ],
)
def test_a_placeholder_that_nothing_fills_is_found_by_asking(
    tmp_path: Path, old: str, new: str, line: int
) -> None:
    (mistake,) = mistakes(written(tmp_path, WHOLE.replace(old, new, 1)))
    assert mistake.line == line, mistake


def test_two_files_with_one_question_and_a_file_of_no_topic(tmp_path: Path) -> None:
    written(tmp_path, WHOLE)
    with pytest.raises(ContentError, match=r"lora.starts.yaml:1: .*lora.yaml"):
        read_questions(written(tmp_path, WHOLE, "lora.yaml"))
    (tmp_path / "lora.yaml").unlink()
    with pytest.raises(ContentError, match=r"lore\.yaml:1"):
        read_questions(written(tmp_path, WHOLE, "lore.yaml"))


def test_the_bank_has_no_mistakes() -> None:
    assert mistakes() == []
    assert {path.stem.split(".")[0] for path in FOLDER.glob("*.yaml")} == set(topics())


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("choose-smallest", calculations.SMALL_CANDIDATES),
        ("choose-mergeable", calculations.MERGE_CANDIDATES),
        ("choose-encoder", calculations.ENCODER_CANDIDATES),
        ("choose-bitfit-model", calculations.BITFIT_MODELS),
    ],
)
def test_options_are_in_the_order_of_their_calculation(name: str, candidates: tuple[str, ...]) -> None:
    models = name == "choose-bitfit-model"
    titles = [get_model(slug).title if models else get_method(slug).title for slug in candidates]
    assert [option.text for option in all_questions()[name].options] == titles


def test_a_predicate_with_a_number_is_one_object() -> None:
    assert room_for(2048) is room_for(2048) is not room_for(4096)
    assert gated(get_model("llama-3.2-3b").shape)
    assert calculations.smallest(Case(get_model("llama-3.2-3b").shape, {"r": 8, "n": 20, "m": 64})).working


FORMULAS = """\
  calculate:
    value: r * each
    unit: parameters
    where: {each: q_in + q_out}
    working:
      - <r> \\cdot <each> = <value>
    forgot:
      r * q_in: B
      value: itself
      0: all of <str(layers)> layers
    tolerance: 0.5
    named: {share: 'share(value, q_in * q_out)'}
    parameters: added
"""


def test_a_question_states_its_calculation_as_formulas(tmp_path: Path) -> None:
    folder = written(tmp_path, WHOLE.replace("  calculate: one_map\n", FORMULAS))
    question, _ = read_questions(folder)["lora-one"]
    answer, shape = question.compute(), get_model("llama-3.2-3b").shape
    assert answer is not None and mistakes(folder) == []
    assert (answer.value, answer.unit, answer.wholes[0].size) == (16 * 6144, "parameters", shape.total)
    assert answer.working == (r"$16 \cdot 6{,}144 = 98{,}304$",)
    [miss] = answer.near_misses
    assert (miss.value, miss.forgot) == (0, "all of 28 layers"), "the others pass for the answer"
    assert answer.named["share"] in question.explain(answer)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value: r * each", "value: r *"),
        ("value: r * each", "value: r.real"),
        ("<r> ", "<[r for r in (1, 2)]> "),
        ("r * q_in: B", "(lambda: r)(): B"),
        ("<str(layers)>", "<r.real>"),
        ("value: r * each", "worth: r * each"),
        ("parameters: added", "parameters: both"),
    ],
)
def test_what_is_no_formula_is_named_where_it_stands(tmp_path: Path, old: str, new: str) -> None:
    whole = WHOLE.replace("  calculate: one_map\n", FORMULAS)
    assert old in whole
    with pytest.raises(ContentError) as caught:
        read_questions(written(tmp_path, whole.replace(old, new, 1)))
    assert 12 < caught.value.line < 26


@pytest.mark.parametrize(
    ("formula", "named"),
    [
        ("q_in + q_oat", "'q_oat'"),
        ("each + 1", "'each'"),
        ("value", "'value'"),
        ("r + 'a'", "r + 'a'"),
        ("r / 0", "r / 0"),
    ],
)
def test_a_formula_that_cannot_be_computed_is_found(tmp_path: Path, formula: str, named: str) -> None:
    whole = WHOLE.replace("  calculate: one_map\n", FORMULAS).replace(
        "{each: q_in + q_out}", f"\n      each: {formula}"
    )
    (found,) = mistakes(written(tmp_path, whole))
    assert found.line == 1 and named in str(found)
