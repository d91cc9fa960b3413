"""Reading free answers: the language of patterns, what negations reach, how sure a finding is, the kept figures."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from bench import reading as bench
from peft_lab.errors import BadInput
from peft_lab.quiz.bank import get_question
from peft_lab.quiz.reading import confidence
from peft_lab.quiz.reading.confidence import Signs
from peft_lab.quiz.reading.facets import parse
from peft_lab.quiz.reading.measured import measured
from peft_lab.quiz.reading.opinion import KEY, MODEL, URL, Endpoint, NoOpinion, endpoint, second_opinion
from peft_lab.quiz.reading.patterns import pattern
from peft_lab.quiz.reading.reader import read_answer, read_with, readable
from peft_lab.quiz.reading.text import sentences

FACETS = """[one]
+ The base stays as it is.
    base unchanged|stays|~change*
-1 The base is trained.
    base trained|updated
- It saves time.
    sav* time
"""


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        ("merg* weights", "You merge it into the weights.", "merge it into the weights"),
        ("low_rank change", "The change is low-rank.", "change is low-rank"),
        ("quantis* base", "The base gets quantized.", "base gets quantized"),
        ("B zero", "With B at zero nothing moves", "B at zero"),
        ("~merge* prefix", "A prefix cannot be merged.", "prefix cannot be merged"),
        ("~merg* prefix", "Merging a prefix is not possible.", "Merging a prefix"),
        ("#5e9..2e10", "At 11B it matches", "11B"),
        ("#1e-4..1e-3 rate", "a rate of 2e-4", "rate of 2e-4"),
        ("every > layer", "every single layer", "every single layer"),
    ],
)
def test_a_pattern_is_found(source: str, text: str, found: str) -> None:
    span = pattern(source).find(sentences(text)[0])
    assert span is not None
    assert text[slice(*span)] == found


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("merg* weights", "You cannot merge it into the weights."),
        ("~merge* prefix", "A prefix is merged."),
        ("B zero", "with b at zero"),
        ("every > layer", "a layer for every task"),
        ("sav* !not time", "It saves time, but not always."),
        ("#5e9..2e10", "At 1B it matches"),
        ("reserved cach*|reserved", "It is reserved."),
    ],
)
def test_a_pattern_is_not_found(source: str, text: str) -> None:
    assert pattern(source).find(sentences(text)[0]) is None


def test_a_pattern_without_terms_or_with_unknown_words_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="asks for nothing"):
        pattern("!not")
    with pytest.raises(ValueError, match="no words"):
        pattern("@nothing_of_the_kind")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("The base stays frozen.", "made"),
        ("The base does not change.", "made"),
        ("The base is trained.", "contradicted"),
        ("The base stays. The base is trained.", "unsure"),
        ("Maybe the base stays, not sure.", "unsure"),
        ("Some say the base is trained.", "missing"),
        ("I like cats.", "missing"),
    ],
)
def test_made_contradicted_missing_or_unsure(answer: str, state: str) -> None:
    (point,) = read_with(parse(FACETS)["one"], answer).points
    assert point.state == state
    assert all(answer[slice(*span)].strip() for span in point.spans)
    assert bool(point.spans) == (state in ("made", "contradicted"))


def test_whoever_errs_is_not_said_to_have_made_other_points() -> None:
    found = read_with(parse(FACETS)["one"], "The base stays. It saves time.")
    assert [each.error.text for each in found.errors] == ["It saves time."]
    assert found.points[0].state == "unsure"


@pytest.mark.parametrize("line", ["hello", "[one]", "+ Point without pattern.\n+ Another.\n    a"])
def test_a_mistake_in_a_file_is_seen(line: str) -> None:
    with pytest.raises(ValueError, match=r"no part|twice|nothing finds"):
        parse(f"[one]\n+ A.\n    a\n{line}\n")


def test_sixty_free_questions_over_all_topics_can_be_read() -> None:
    asked = [get_question(name) for name in readable()]
    assert len(asked) >= 60
    assert {question.kind for question in asked} == {"free"}
    assert len({question.topic for question in asked}) >= 14
    for name, facets in readable().items():
        assert len(facets.points) >= 3, name
        texts = [point.text for point in facets.points] + [error.text for error in facets.errors]
        assert len(set(texts)) == len(texts)


def test_model_answers_are_read_as_right() -> None:
    states = [
        point.state for name in readable() for point in _read(name, get_question(name).explain(None)).points
    ]
    assert states.count("made") >= 0.8 * len(states)
    assert states.count("contradicted") <= 0.01 * len(states)


def _read(name: str, answer: str) -> Any:
    found = read_answer(name, answer)
    assert found is not None
    return found


def test_a_question_without_facets_is_not_read() -> None:
    assert read_answer("lora-one-map", "98304") is None


def test_the_page_says_what_the_kept_answers_give() -> None:
    assert bench.counts() == measured(), "python -m bench.reading --write"
    assert measured().answers >= 200


def test_no_answer_of_a_test_was_developed_on() -> None:
    sets = {name: [row["answer"] for row in bench.rows(name)] for name in bench.SETS}
    assert len(sets["developed"]) + len(sets["kept"]) == 480
    assert len(sets["fresh"]) >= 100
    every = [answer for answers in sets.values() for answer in answers]
    assert len(set(every)) == len(every)


def test_what_is_called_made_is_right_and_half_of_all_points_are_decided() -> None:
    for name in bench.SETS:
        score = bench.measure(None, name)
        assert score.precision("made", "m") >= 0.95
        assert score.coverage >= 0.5


def test_the_weights_are_those_of_the_development_half() -> None:
    kept = json.loads(confidence.FILE.read_text("utf-8"))
    fitted = bench.fitted()
    assert kept["weights"] == pytest.approx(fitted["weights"], abs=2e-3)
    assert {**kept, "weights": {}} == {**fitted, "weights": {}}


def test_less_is_said_where_less_speaks_for_it() -> None:
    sure = Signs(agree=True, nearly=0, words=1.0)
    known = confidence.confidence()
    assert known.enough(sure)
    for worse in (Signs(False, 0, 1.0), Signs(True, 1, 1.0), Signs(True, 0, 0.5)):
        assert known.of(worse) < known.of(sure)
    assert not known.enough(Signs(False, 2, 0.0))


def test_a_contradiction_is_read_in_one_clause_and_across_two_is_a_doubt() -> None:
    facets = parse(
        "[one]\n+ The base stays as it is.\n    base unchanged|stays\n-1 It is trained.\n    base trained\n"
    )
    for answer, state in (
        ("The base is trained.", "contradicted"),
        ("It sits on the base, and the head is trained.", "unsure"),
    ):
        (point,) = read_with(facets["one"], answer).points
        assert point.state == state


class Stub(BaseHTTPRequestHandler):
    """Answers as a server of chat completions would, or as it should not."""

    seen: ClassVar[list[tuple[str, str, Any]]] = []
    reply: ClassVar[tuple[int, bytes]] = (200, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers.get("Authorization", ""), body))
        self.send_response(self.reply[0])
        self.end_headers()
        self.wfile.write(self.reply[1])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def stub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    Stub.seen.clear()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_second_opinion_is_off_by_default() -> None:
    assert endpoint({}) is None
    assert endpoint({KEY: "k"}) is None


@pytest.mark.parametrize(
    "found", [{URL: "localhost"}, {URL: "http://localhost"}, {URL: "file:///x", MODEL: "m"}]
)
def test_a_half_set_endpoint_is_refused(found: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=URL):
        endpoint(found)


def test_a_second_opinion_sends_question_points_and_answer(stub: str) -> None:
    Stub.reply = (200, json.dumps({"choices": [{"message": {"content": " Fine. "}}]}).encode())
    where = endpoint({URL: stub + "/", MODEL: "m", KEY: "secret"})
    assert where is not None
    assert second_opinion(where, "Why?", ("Because.",), "So.") == "Fine."
    ((path, key, body),) = Stub.seen
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "m")
    assert body["messages"][1]["content"] == "Question: Why?\n\nPoints:\n1. Because.\n\nAnswer:\nSo."
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((401, b""), "status 401"),
        ((200, b"hello"), "did not send a chat completion"),
        ((200, b'{"choices": []}'), "did not send a chat completion"),
        ((200, b'{"choices": [{"message": {"content": ""}}]}'), "empty answer"),
    ],
)
def test_a_server_that_gives_none_is_told_in_a_sentence(
    stub: str, reply: tuple[int, bytes], said: str
) -> None:
    Stub.reply = reply
    with pytest.raises(NoOpinion, match=said):
        second_opinion(Endpoint(stub, "m"), "Why?", (), "So.")


def test_a_server_that_is_not_there_is_told(stub: str) -> None:
    with pytest.raises(NoOpinion, match="cannot be reached"):
        second_opinion(Endpoint("http://127.0.0.1:9/v1", "m"), "Why?", (), "So.")


def test_alpha_is_not_what_makes_an_effect_of_exactly_nothing() -> None:
    said = (
        "If the outputs are exactly equal to the base the product BA is zero only because alpha is too small"
    )
    for answer in (f"{said}, so I raise alpha.", f"{said}.", "So I would simply raise alpha."):
        assert [each.error.text for each in _read("debug-no-effect", answer).errors] == [
            "α is too small, and is to be raised."
        ], answer
    for answer in (
        "If alpha is too small the effect is weak, not zero.",
        "Alpha is not too small.",
        "I would not raise alpha.",
    ):
        assert not _read("debug-no-effect", answer).errors, answer


@pytest.mark.parametrize(
    ("end", "made"),
    [
        (", so I would not check that", False),
        (", so there is no need to look at it", False),
        (", which I would check", True),
        (", so I would not stop there", True),
    ],
)
def test_who_would_not_look_has_not_said_to_look(end: str, made: bool) -> None:
    whole = get_question("debug-no-effect").explain(None).split("Is the adapter active")
    answer = f"{whole[0]} Check that the adapter is active and enabled{end}."
    point = next(each for each in _read("debug-no-effect", answer).points if "active" in each.point.text)
    assert (point.state == "made") == made
