"""A learner's tagged words: CoNLL and JSON Lines read alike, or refused in one sentence that names the line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.models.loading import load_tokenizer, weights_of
from peft_lab.runs import preview
from peft_lab.training import batches
from peft_lab.training.marking import marked_tags
from peft_lab.training.tasks import apart, hub_rows, own
from peft_lab.training.tasks.base import Row, same_text
from peft_lab.training.tasks.tags import OWN_WORD, spans, tagged, tags_in
from tests.prose import says

Sentence = tuple[list[str], list[str]]
NAMES = ("Ann", "Bob", "Carl", "Dora", "Eve", "Finn", "Gus", "Hal", "Ines", "Jon")
GOOD: list[Sentence] = [
    (["Dr.", name, "left", "New", "York", "and/or", "L.A."],
     ["O", "B-PER", "O", "B-LOC", "I-LOC", "O", "B-LOC"]) for name in NAMES
]  # fmt: skip


def jsonl(sentences: Sequence[Any]) -> bytes:
    return "\n".join(
        json.dumps(dict(zip(("tokens", "tags"), each, strict=True))) for each in sentences
    ).encode()


def conll(sentences: Sequence[Any], gap: str = "\t", end: str = "\n") -> bytes:
    blocks = [
        "".join(f"{word}{gap}{tag}{end}" for word, tag in zip(*each, strict=True)) for each in sentences
    ]
    return end.join(blocks).encode()


def refusal(data: bytes, name: str = "mine.conll") -> str:
    with pytest.raises(BadInput) as caught:
        own.parse(data, name)
    message = str(caught.value)
    assert caught.value.field == "file" and message.endswith(".") and "\n" not in message
    return message


def read(task: own.OwnTask) -> list[Sentence]:
    """The sentences of a task, in the order of the file."""
    splits = task.load()
    rows = sorted((*splits.train, *splits.test), key=lambda row: row.line)
    return [(row.text.split(), tags_in(row.target)) for row in rows]


OLD = b"-DOCSTART- -X- -X- O\n\n" + conll(
    [(words, [f"NNP I-NP {tag}" for tag in tags]) for words, tags in GOOD], " "
)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (jsonl(GOOD), "mine.jsonl"),
        (conll(GOOD), "mine.conll"),
        (conll(GOOD, " "), "MINE.TXT"),
        (b"\xef\xbb\xbf" + conll(GOOD, end="\r\n") + b"\r\n\r\n\r\n", "mine.txt"),
        (OLD, "eng.train.txt"),  # CoNLL-2003: four columns
    ],
)
def test_the_same_sentences_in_many_files(data: bytes, name: str) -> None:
    task = own.parse(data, name)
    assert (task.kind, task.model_kinds, task.metric, task.max_new_tokens, task.note) == (
        "tagging", ("encoder",), "span_f1", 0, "",
    )  # fmt: skip
    assert task.labels == ("O", "B-LOC", "I-LOC", "B-PER") and read(task) == GOOD
    splits = task.load()
    assert len(splits.test) == 2
    assert task.score([row.target for row in splits.test], splits.test)["span_f1"] == 1.0
    assert task.score([row.text for row in splits.test], splits.test)["span_f1"] == 0.0
    assert apart.load(data, name) == task


def test_the_lines_are_those_of_the_file() -> None:
    spaced = own.parse(b"\n\n" + conll(GOOD), "a.conll").load()
    assert sorted(row.line for row in (*spaced.train, *spaced.test)) == [3 + 8 * n for n in range(10)]


@pytest.mark.parametrize(
    ("given_", "wanted", "rewritten"),
    [
        ("I-PER I-PER O I-LOC", "B-PER I-PER O B-LOC", 2),  # IOB1
        ("I-PER B-PER O I-LOC", "B-PER B-PER O B-LOC", 2),
        ("B-PER I-LOC I-LOC O", "B-PER B-LOC I-LOC O", 1),
        ("B-PER E-PER O S-LOC", "B-PER I-PER O B-LOC", 2),  # BIOES
        ("B-PER L-PER U-LOC U-LOC", "B-PER I-PER B-LOC B-LOC", 3),  # BILOU
    ],
)
def test_other_schemes_are_read_as_bio_and_said(given_: str, wanted: str, rewritten: int) -> None:
    words = ["Ann", "Bell", "left", "Rome"]
    task = own.parse(conll([*GOOD, (words, given_.split())]), "a.conll")
    assert read(task)[-1] == (words, wanted.split())
    assert task.note.startswith(f"{rewritten} tag") and task.note in task.description
    assert says(task.note, "BIO")


def test_a_token_with_spaces_is_words_of_one_span() -> None:
    task = own.parse(jsonl([*GOOD, (["in", "New York", "City"], ["O", "B-LOC", "I-LOC"])]), "a.jsonl")
    assert read(task)[-1] == (["in", "New", "York", "City"], ["O", "B-LOC", "I-LOC", "I-LOC"])
    assert task.note == ""


def test_words_that_look_tagged_are_read_as_they_are() -> None:
    odd = (["vitamin", "A/B-12", "1/O", "Ann/B-PER"], ["O", "O", "O", "B-PER"])
    assert read(own.parse(conll([*GOOD, odd]), "a.conll"))[-1] == odd


BAD = [*GOOD[:1], (["Ann", "left"], ["B-PER", "NOUN"])]


@pytest.mark.parametrize(
    ("data", "name", "parts"),
    [
        (conll(BAD), "a.conll", ["'NOUN'", "line 10"]),
        (jsonl(BAD), "a.jsonl", ["'NOUN'", "token 2", "line 2"]),
        (jsonl([(["Ann"], [3])]), "a.jsonl", ["number 3", "token 1 in line 1"]),
        (jsonl([(["Ann"], [None])]), "a.jsonl", ["'None'", "line 1"]),
        (jsonl([(["Ann"], ["B-"])]), "a.jsonl", ["'B-'"]),
        (jsonl([(["Ann"], ["B-a b"])]), "a.jsonl", ["'B-a b'"]),
        (jsonl([(["Ann"], ["B-a/I-b"])]), "a.jsonl", ["'B-a/I-b'"]),
        (jsonl([(["Ann"], [f"B-{'x' * 61}"])]), "a.jsonl", ["60 characters", "line 1"]),
        (jsonl([([], [])]), "a.jsonl", ["0 tokens", "line 1"]),
        (jsonl([*GOOD, (["Ann", "left"], ["O"])]), "a.jsonl", ["2 tokens and 1 tags", "line 11"]),
        (jsonl([("Ann", "O")]), "a.jsonl", ["lists", "line 1"]),
        (jsonl([(["Ann", " "], ["O", "O"])]), "a.jsonl", ["blank", "token 2 in line 1"]),
        (jsonl([(["\u200b"], ["O"])]), "a.jsonl", ["blank", "line 1"]),
        (jsonl([([7], ["O"])]), "a.jsonl", ["not a text"]),
        (jsonl([(["\ud800"], ["O"])]), "a.jsonl", ["not a text", "line 1"]),
        (b"Ann B-PER\nleft\n", "a.conll", ["Line 2", "one column"]),
        (b"Some words of prose.\n", "notes.txt", ["'prose.'", "line 1"]),
        (conll([*GOOD, (["x" * 4001], ["O"])]), "a.conll", ["line 81", "4,000"]),
        (conll(GOOD[:7]), "a.conll", ["7 rows", "at least 8"]),
        (conll([(words, ["O"] * 7) for words, _ in GOOD]), "a.conll", ["0 sentences", "at least 2"]),
        (conll([*GOOD[:1], *((words, ["O"] * 7) for words, _ in GOOD[1:])]), "a.conll", ["1 sentence ", "at least 2"]),
        (jsonl([([name], [f"B-t{n}"]) for n in range(51) for name in (f"{n}",)]), "a.jsonl", ["51", "at most 50"]),
        (jsonl([*GOOD, (["x"], ["B-PER\u200b"])]), "a.jsonl", ["U+200B", "alike"]),
        (b"tokens,tags\nAnn,O\n", "a.csv", ["CSV", ".jsonl"]),
        (b"\n\n-DOCSTART- O\n\n", "a.conll", ["0 rows"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(data: bytes, name: str, parts: list[str]) -> None:
    assert says(refusal(data, name), *parts)


WORDS = st.text(min_size=1, max_size=6).filter(
    lambda word: len(word.split()) == 1 and word == word.strip() and word.isprintable()
)
TAGS = st.sampled_from(["O", "O", "B-a", "I-a", "B-b/c", "I-b/c", "S-a", "E-b/c", "U-a", "L-a"])
SENTENCES = st.lists(
    st.lists(st.tuples(WORDS, TAGS), min_size=1, max_size=5).map(lambda pairs: [*map(list, zip(*pairs, strict=True))]),
    min_size=1, max_size=12,
)  # fmt: skip


@given(SENTENCES)
def test_any_sentences_are_read_word_by_word_from_both_formats(sentences: list[Any]) -> None:
    """Words are as in the file, tags are BIO, repeated texts are in one part, and both formats agree."""
    try:
        task = own.parse(jsonl([*GOOD, *sentences]), "a.jsonl")
    except BadInput as error:
        assert "alike" in str(error) or "blank" in str(error)
        return
    for (words, tags), (wanted, were) in zip(read(task), [*GOOD, *sentences], strict=True):
        assert words == wanted and set(tags) <= set(task.labels)
        assert [tag == "O" for tag in tags] == [tag == "O" for tag in were]
        assert [tag.partition("-")[2] for tag in tags] == [tag.partition("-")[2] for tag in were]
        begun = [tag for before, tag in zip(["O", *tags], tags, strict=False) if tag[2:] != before[2:]]
        assert not any(tag.startswith("I-") for tag in begun)
        row = Row(" ".join(words), tagged(" ".join(words), tags, OWN_WORD))
        assert task.score([row.target], [row])["span_f1"] == 1.0
    splits = task.load()
    train, test = ({same_text(row.text) for row in part} for part in (splits.train, splits.test))
    assert not train & test and any(spans(tags_in(row.target)) for row in splits.test)
    if not any("-DOCSTART-" in words for words, _ in sentences):
        assert read(own.parse(conll([*GOOD, *sentences]), "a.conll")) == read(task)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_anything_else_is_refused_in_one_sentence(data: str | bytes) -> None:
    written = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    refusal(written, "a.conll")


@pytest.mark.weights
def test_a_word_is_learned_at_its_first_token_and_shown_before_training(assets_home: Path) -> None:
    tokenizer = load_tokenizer(weights_of("minilm-l6"))
    long = (["word"] * 300, ["O"] * 300)
    odd = (["\u200b", "Unbelievably", "Ann"], ["O", "B-X", "B-PER"])  # no token; several tokens
    task = own.parse(jsonl([*GOOD, odd, long]), "a.jsonl")
    (row,) = [row for row in (*task.load().train, *task.load().test) if "Unbelievably" in row.text]
    (encoded,) = batches.encode(task, [row], tokenizer, 64)
    pieces = tokenizer.convert_ids_to_tokens(list(encoded.ids))
    labelled = [piece for piece, tag in zip(pieces, encoded.tags, strict=True) if tag != batches.IGNORED]
    assert labelled == ["un", "ann"] and len(pieces) > 5
    assert [task.labels[tag] for tag in encoded.tags if tag != batches.IGNORED] == ["B-X", "B-PER"]
    seen = preview.preview(task, tokenizer, 64)
    assert seen.tagging and seen.cut == 1 and seen.lost == 302 - 64 and seen.longest == 302
    assert seen.trained == sum(len(words) for words, _ in GOOD) + 2 + 62
    assert "302" in " ".join(preview.notes(seen)) and str(seen.trained) in preview.headline(seen)
    shown = preview.preview(replace(task, splits=replace(task.splits, train=(row,))), tokenizer, 64).sample[0]
    assert [token.text for token in shown.tokens if token.trained] == ["un", "ann"] and shown.line == 11


def test_the_words_of_an_own_sentence_are_marked_as_they_were_tagged() -> None:
    text, right = "Dr. Ann left L.A.", "Dr. Ann/B-PER left L.A./B-LOC"
    found = marked_tags(text, "Dr. Ann/B-PER left/B-LOC L.A./I-LOC", right)
    assert [(piece.text, piece.verdict) for piece in found.pieces if piece.tag] == [
        ("Ann", "right"), ("left L.A.", "wrong"),
    ]  # fmt: skip
    assert (found.right, found.total) == (1, 2)


@pytest.mark.parametrize("several", [lambda one: [one], lambda one: {"feature": one, "_type": "List"}])
def test_the_names_of_numbered_tags_are_read_from_the_schema(several: Any, tmp_path: Path) -> None:
    """As ``datasets`` writes lists of class labels: as a list, or as an object with the feature of its items."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    names = ["O", "B-PER", "I-PER"]
    features = {
        "tokens": several({"_type": "Value"}),
        "ner_tags": several({"_type": "ClassLabel", "names": names}),
    }
    made = pa.table({"tokens": [["Ann", f"{n}"] for n in range(9)], "ner_tags": [[1, 0]] * 9})
    told = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    parquet.write_table(made.replace_schema_metadata(told), tmp_path / "rows.parquet")
    lines, available = hub_rows.sampled([tmp_path / "rows.parquet"], {"ner_tags": "tags"})
    task = own.parse(b"".join(lines), "rows.jsonl")
    assert available == 9 and task.labels == ("O", "B-PER")
    assert sorted(read(task)) == [(["Ann", f"{n}"], ["B-PER", "O"]) for n in range(9)]
