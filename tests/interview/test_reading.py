"""Free answers: the labelled sets fit the bank, and a second opinion is asked for and told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.interview.bank import get_question
from peft_lab.interview.opinion import KEY, MODEL, URL, Endpoint, NoOpinion, endpoint, second_opinion

ANSWERS = Path(__file__).parent / "answers"
SETS = ("developed", "kept", "fresh", "second_developed", "second_kept")


def test_every_labelled_answer_is_to_a_free_question_with_the_points_it_is_labelled_for() -> None:
    rows = [
        json.loads(line)
        for name in SETS
        for line in (ANSWERS / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]
    assert len({row["answer"] for row in rows}) == len(rows)
    for row in rows:
        question = get_question(row["question"])
        assert question.kind == "free"
        assert set(row["points"]) <= set("mpnc")
        assert 0 <= len(question.listen_for) - len(row["points"]) <= 1, question.id


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
