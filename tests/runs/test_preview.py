"""What a learner sees of a file before training is what the training learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.runs import course, preview
from peft_lab.runs.preview import Preview, heading, notes
from peft_lab.runs.spec import RunRequest
from peft_lab.training import batches
from peft_lab.training.batches import IGNORED
from peft_lab.training.tasks.own import parse
from tests.models import homemade
from tests.prose import facts, says
from tests.training.tasks.test_own import ASKS, SAYS, conversation, file_of
from tests.training.test_batches import PLAIN, tokenizer_of

LONG = [{"role": "user", "content": "word " * 100}, SAYS]


def look(data: bytes, template: str | None = PLAIN, max_length: int = 60) -> Preview:
    return preview.preview(parse(data, "mine.jsonl"), tokenizer_of(template), max_length)


def test_it_marks_what_the_batches_ask_for() -> None:
    task, tokenizer = parse(file_of([ASKS, SAYS, ASKS, SAYS]), "mine.jsonl"), tokenizer_of(PLAIN)
    found = preview.preview(task, tokenizer, 60)
    splits = task.load()
    rows = [*splits.train[:2], splits.test[0]]
    labels = [
        batches.collate(batches.encode(task, [row], tokenizer, 60), 0, "cpu")["labels"][0].tolist()
        for row in rows
    ]
    assert [[token.trained for token in row.tokens] for row in found.sample] == [
        [label != IGNORED for label in each] for each in labels
    ]
    assert [(row.line, row.held_out) for row in found.sample] == [
        (row.line, number == 2) for number, row in enumerate(rows)
    ]
    everything = batches.encode(task, [*splits.train, *splits.test], tokenizer, 60)
    batch = batches.collate(everything, 0, "cpu")
    assert found.trained == int((batch["labels"] != IGNORED).sum())
    assert found.tokens == int(batch["attention_mask"].sum())
    assert "".join(token.text for token in found.sample[0].tokens if token.trained).endswith("</s>")


def test_cut_rows_are_counted_and_one_that_loses_its_answers_is_refused() -> None:
    talk = [message for number in range(6) for message in conversation(number)]
    found = look(file_of(talk))
    whole = len(batches.read_chat(tokenizer_of(PLAIN), [(m["role"], m["content"]) for m in talk])[0])
    assert (found.cut, found.lost, found.longest) == (1, whole - 60, whole)
    assert says(notes(found)[0], "60 tokens", whole)
    with pytest.raises(BadInput, match=facts("line 11", "token 60")):
        look(file_of(LONG))


def test_what_a_format_costs_and_adds_is_said() -> None:
    adds = "{% if messages[0].role != 'system' %}[system]Be kind.{{ '\\n' }}{% endif %}" + PLAIN
    system = [{"role": "system", "content": "Be brief."}, ASKS, SAYS]
    found = look(file_of(system), adds, 80)
    assert (found.opening, found.opening_tokens, found.opened) == ("[system]Be kind.\n", 17, 10)
    # a byte a token: [user], a line break, [a], the end token and a line break
    assert found.around == len("[user]\n[a]\n") + 1
    said = " ".join(notes(found))
    assert says(said, "17 tokens", 10, "[system]Be kind.↵")
    assert "ends with </s>" in said and says(said, "chat template", "12 tokens")
    assert look(file_of()).opening == ""


@pytest.fixture
def folder(tmp_path: Path) -> str:
    place = homemade.folder("qwen2", tmp_path / "model")
    tokenizer_of(PLAIN).save_pretrained(place)
    return place


def test_a_run_learns_what_was_shown(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path / "home"))
    own = tmp_path / "mine.jsonl"
    own.write_bytes(file_of([ASKS, SAYS, ASKS, SAYS]))
    wish: dict[str, Any] = {"steps": 2, "batch": 2, "eval_rows": 2, "own_data": str(own)}
    spec = RunRequest(folder, "lora", "own", {"r": 2}, **wish).complete()
    found = preview.look(folder, str(own), spec.max_length)
    assert isinstance(found, Preview)
    ready = course.prepare(spec)
    for number, shown in enumerate(found.sample[:2]):
        row = ready.rows[number]
        assert preview.mask_of(row) == [token.trained for token in shown.tokens]
        assert "".join(token.text for token in shown.tokens) == ready.base.tokenizer.decode(list(row.ids))
        assert says(heading(shown), f"line {shown.line}", f"{sum(preview.mask_of(row))} of")


def test_a_file_that_cannot_be_trained_on_is_refused_before_it_starts(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path / "home"))
    own = tmp_path / "mine.jsonl"
    own.write_bytes(file_of([{"role": "user", "content": "word " * 200}, SAYS]))
    with pytest.raises(BadInput, match=r"line 11 .* after token 512") as refused:
        RunRequest(folder, "lora", "own", own_data=str(own)).complete()
    assert refused.value.field == "own_data"
    assert "differently" not in str(refused.value)
