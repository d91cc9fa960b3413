"""Content beside the question bank: each kind is read, and a mistake in a file is named with its line."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_lab.advise import tree
from peft_lab.core.content import ContentError, read_entry
from peft_lab.interview import claims, since, tour
from peft_lab.interview.claims import all_claims
from peft_lab.interview.clinic import checks, faults
from peft_lab.interview.clinic.faults import all_faults
from peft_lab.interview.question import topics
from peft_lab.interview.tour import Tour
from peft_lab.methods import all_methods
from peft_lab.methods.shared.virtual_tokens import PREFIX_LOST


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
MISTAKES = [
    ("clinic", "training.yaml", "family: training", "family: trained"),
    ("clinic", "training.yaml", "    arguments: |-", "    argument: |-"),
    ("clinic", "training.yaml", "  title: The learning rate is too high\n", ""),
    ("clinic", "loading.yaml", "weight: proof}", "weight: sure}"),
    ("clinic", "loading.yaml", "- name: wrapped-twice", "- name: wrong-base"),
    ("claims", "lora.yaml", "check: lora_share", "check: lora_shear"),
    ("claims", "lora.yaml", "fits: takes LoRA", "fits: takes all"),
    ("claims", "lora.yaml", "{query_value:share}", "{query_value:shear}"),
    ("claims", "lora.yaml", "{trainable:count}", "{trainable:count"),
    ("claims", "lora.yaml", "source: cited", "source: heard"),
    ("claims", "lora.yaml", "- {subject: lora, relation: merges}", "- {subject: lora, relation: melts}"),
    ("discoveries", "lora.yaml", "source: LORA_REGRET", "source: LORA_REGRETS"),
    ("discoveries", "lora.yaml", "{RANK_COLLAPSE}", "{RANK_COLLAPSED}"),
    ("discoveries", "lora.yaml", "times: printed lora-rate-times", "times: printed lora-rate-time"),
    ("discoveries", "lora.yaml", "attention: right lora--", "attention: left lora--"),
    ("discoveries", "lora.yaml", "opens: {page: compare, lines: rank}", "opens: {lines: rank}"),
    ("tree", "advice.yaml", "  - several seeds", "  - several seats"),
    ("tree", "reasons.yaml", "source: QLORA, section 4", "source: QLORRA, section 4"),
    ("tree", "reasons.yaml", "when: {tasks: many}", "when: [tasks, many]"),
]


@pytest.mark.parametrize(("kind", "file", "old", "new"), MISTAKES)
def test_a_mistake_is_named_with_its_file_and_line(
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


def test_a_stop_without_a_title_is_named_with_its_line(tmp_path: Path) -> None:
    text = tour.NEWCOMER.read_text("utf-8")
    path = tmp_path / "newcomer.yaml"
    path.write_text(text.replace("- page: lora\n  title:", "- page: lora\n  titel:", 1), "utf-8")
    with pytest.raises(ContentError) as caught:
        read_entry(path, Tour)
    assert caught.value.line == path.read_text("utf-8")[: text.index("- page: lora")].count("\n") + 2


def test_faults_name_faults_and_patterns_that_compile() -> None:
    known = all_faults()
    for fault in known.values():
        assert set(fault.like) <= set(known) - {fault.name}
        assert all(re.compile(message.pattern) for message in fault.messages)
    assert PREFIX_LOST in known["prefix-ignored"].fix


def test_checks_find_the_sentences_that_they_name() -> None:
    known = {(fault.name, name) for fault in all_faults().values() for name in fault.evidence}
    calls = [
        [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
        for call in ast.walk(ast.parse(inspect.getsource(checks)))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "sign"
    ]
    named = {(call[0], call[1]) for call in calls if len(call) > 1 and call[0] in all_faults()}
    assert len(named) > 50 and named <= known
    written = inspect.getsource(checks)
    assert not [name for _, name in known if f'"{name}"' not in written]


def test_a_file_belongs_to_a_topic_a_method_or_a_stage() -> None:
    for folder, names in (
        (claims.CONTENT, topics()),
        (since.CONTENT, all_methods()),
        (faults.CONTENT, faults.FAMILIES),
    ):
        assert {path.stem for path in folder.iterdir()} <= set(names)
    for claim in all_claims().values():
        assert f"id: {claim.id}\n" in (claims.CONTENT / f"{claim.topic}.yaml").read_text("utf-8")
    for fault in all_faults().values():
        assert f"name: {fault.name}\n" in (faults.CONTENT / f"{fault.family}.yaml").read_text("utf-8")


def test_the_tree_leads_to_nodes_and_advice() -> None:
    for node in tree.NODES.values():
        assert node.question in tree.QUESTIONS
        for branch in node.branches:
            assert branch.to in tree.NODES or branch.to in tree.ADVICE
            assert set(branch.values) <= set(tree.QUESTIONS[node.question].answers)
    for advice in tree.ADVICE.values():
        assert set(advice.others) <= set(tree.ADVICE)
        for when in (reason.when for reason in advice.reasons if reason.when):
            assert when[1] in tree.QUESTIONS[when[0]].answers
