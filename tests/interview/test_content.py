"""Content files: what belongs to an entry is read, and each kind of mistake is named with its file and line."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_lab.advise import tree
from peft_lab.core import references
from peft_lab.core.content import ContentError
from peft_lab.core.errors import UnknownName
from peft_lab.core.references import LORA, PEFT
from peft_lab.core.units import Source
from peft_lab.engine import published
from peft_lab.interview import calculations, claims, glossary, since
from peft_lab.interview.bank import FOLDER, all_questions, mistakes, read_questions
from peft_lab.interview.claims import all_claims
from peft_lab.interview.clinic import checks, faults
from peft_lab.interview.clinic.faults import all_faults
from peft_lab.interview.question import room_for, topics
from peft_lab.interview.since import Discovery, seen
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.shared.virtual_tokens import PREFIX_LOST
from peft_lab.models.catalogue import get_model
from peft_lab.studies.experiments import all_experiments
from tests.interview.each import over

MISTAKES = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text("utf-8"))
WHOLE = Path(__file__).with_name("question.yaml").read_text("utf-8")


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


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES["question"])
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


def test_options_are_in_the_order_of_their_calculation() -> None:
    for name, candidates in (
        ("choose-smallest", calculations.SMALL_CANDIDATES),
        ("choose-mergeable", calculations.MERGE_CANDIDATES),
        ("choose-encoder", calculations.ENCODER_CANDIDATES),
        ("choose-bitfit-model", calculations.BITFIT_MODELS),
    ):
        of = get_model if name == "choose-bitfit-model" else get_method
        assert [option.text for option in all_questions()[name].options] == [
            of(slug).title for slug in candidates
        ]


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


@pytest.mark.parametrize(("old", "new"), MISTAKES["formulas"])
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


def read_discoveries() -> Any:
    return since.of_method.__wrapped__("lora")


def read_advice() -> Any:
    return tree._read_advice()


KINDS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "clinic": (faults, all_faults.__wrapped__),
    "claims": (claims, all_claims.__wrapped__),
    "discoveries": (since, read_discoveries),
    "tree": (tree, read_advice),
}


@pytest.mark.parametrize(("kind", "file", "old", "new"), MISTAKES["kinds"])
def test_a_mistake_of_any_kind_is_named_with_its_file_and_line(
    kind: str, file: str, old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, read = KINDS[kind]
    folder = tmp_path / kind
    shutil.copytree(module.CONTENT, folder)
    monkeypatch.setattr(module, "CONTENT", folder)
    assert read()
    text = (folder / file).read_text("utf-8")
    assert old in text
    line = text[: text.index(old)].count("\n") + 1
    (folder / file).write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ContentError) as caught:
        read()
    assert caught.value.path.name == file
    # folded text, a missing field and a list are at the line that their entry or field begins in
    assert line - 5 <= caught.value.line <= line, caught.value
    assert str(caught.value).startswith(f"{kind}/{file}:{caught.value.line}: ")


def test_faults_name_faults_and_patterns_that_compile() -> None:
    known = all_faults()
    for fault in known.values():
        assert set(fault.like) <= set(known) - {fault.name}
        assert all(re.compile(message.pattern) for message in fault.messages)
    assert PREFIX_LOST in known["prefix-ignored"].fix


def test_rules_name_what_is_known() -> None:
    names = set(checks.CONSTANTS) | set(re.findall(r'"(\w+)"', inspect.getsource(checks)))
    names |= {f"{one}_{other}" for one in ("hollow", "compiled", "nested") for other in ("keys",)}
    names |= {f"first_{one}" for one in ("hollow", "compiled", "nested")}
    rules = [rule for fault in all_faults().values() for rule in fault.evidence.values()]
    assert len(rules) > 50
    for rule in rules:
        asked = {
            node.id
            for text in (rule.when, rule.weight)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Name)
        }
        asked |= {name for _, name, _, _ in string.Formatter().parse(rule.says) if name}
        assert asked <= names, rule


def test_a_file_belongs_to_a_topic_a_method_or_a_stage() -> None:
    for folder, names in (
        (claims.CONTENT, topics()),
        (since.CONTENT, all_methods()),
        (faults.CONTENT, faults.FAMILIES),
    ):
        assert {path.stem for path in folder.iterdir()} <= set(names)


#: What the pages use without explaining it themselves.
NEEDED = {
    "token", "logits", "nats", "held-out rows", "rank", "exact match", "singular value", "JSON", "adapter",
    "base model", "quantisation", "gradient", "checkpointing", "learning rate", "epoch", "LoRA alpha", "perplexity",
}  # fmt: skip


def test_each_form_belongs_to_one_word() -> None:
    words = glossary.words()
    assert set(words) >= NEEDED
    forms = [form.lower() for word in words.values() for form in (word.term, *word.also)]
    assert len(forms) == len(set(forms))
    assert all(word.meaning.endswith(".") and 30 < len(word.meaning) < 260 for word in words.values())


@pytest.mark.parametrize(
    "text", [*(method.summary for method in all_methods().values()), "Rate, rank and RANK; rerank"]
)
def test_a_word_is_marked_where_it_is_used_first(text: str) -> None:
    found = glossary.pieces(text)
    assert "".join(piece for piece, _ in found) == text
    marked = [word.term for _, word in found if word is not None]
    assert marked and len(marked) == len(set(marked))


def test_the_longer_form_wins_and_a_part_of_a_word_is_none() -> None:
    assert [piece for piece, word in glossary.pieces("The learning rate of rerank") if word] == [
        "learning rate"
    ]
    with pytest.raises(UnknownName):
        glossary.meaning("no such word")


DISCOVERIES = since.all_discoveries()
NAMES = re.compile(r"`[^`]*`|GSM8K|OFTv2|\b4-bit\b")  # with a digit in them
KNOWN = {value for name, value in vars(references).items() if name.isupper() and isinstance(value, str)}


@over(DISCOVERIES)
def test_its_source_is_known_and_later_than_the_papers(discovery: Discovery) -> None:
    assert discovery.source in KNOWN
    assert 2024 <= discovery.year <= 2026
    assert discovery.place and discovery.version
    named_year = re.search(r"\b20\d\d\b", discovery.source)
    assert bool(named_year) != bool(discovery.dated), (
        "a year stands in the reference or beside it, not in both"
    )
    assert discovery.address.startswith("https://") or discovery.source == references.PEFT


@over(DISCOVERIES)
def test_no_figure_is_typed(discovery: Discovery) -> None:
    for text in (discovery.title, discovery.found, discovery.follows):
        assert not re.search(r"\d", NAMES.sub("", text)), "a figure comes from figures={...}"
    asked = {name for _, name, _, _ in string.Formatter().parse(discovery.found) if name}
    assert asked == set(discovery.figures)
    assert "{" not in discovery.said
    assert all(re.search(r"\d", write()) for write in discovery.figures.values())


@over(DISCOVERIES)
def test_there_is_one_thing_to_see_it_by(discovery: Discovery) -> None:
    given = [bool(discovery.experiment), bool(discovery.rows), discovery.opens is not None]
    assert sum(given) == 1
    if discovery.experiment:
        assert discovery.experiment in {experiment.id for experiment in all_experiments()}
    if discovery.expects is not None:
        assert discovery.experiment in seen(), "python -m tools.see_since runs it and keeps what it showed"
    assert set(discovery.rows) <= set(published.rows())


def test_what_is_kept_belongs_to_a_discovery() -> None:
    assert set(seen()) <= {discovery.experiment for discovery in DISCOVERIES}
    assert all(found.text.endswith(".") and found.holds is not None for found in seen().values())
