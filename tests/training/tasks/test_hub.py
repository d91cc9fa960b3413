"""Datasets of the hub: out of a server on this machine that speaks what ``huggingface_hub`` asks, and of its cache."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from peft_lab.core import asking
from peft_lab.core.errors import BadInput
from peft_lab.training.tasks import apart, hub, hub_rows
from tests.prose import says

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = "owner/reviews"


@dataclass
class Hub:
    """Files of one dataset, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    server: Any = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def respond(self, handler: BaseHTTPRequestHandler, body: bool) -> None:
        path = handler.path.partition("?")[0]
        self.asked.append(f"{handler.command} {path}")
        if path in (f"/api/datasets/{REPO}", f"/api/datasets/{REPO}/revision/{SHA}"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            found = json.dumps({"id": REPO, "sha": SHA, "siblings": siblings, "tags": []}).encode()
            self._send(handler, 200, found, body, {"Content-Type": "application/json"})
            return
        name = path.removeprefix(f"/datasets/{REPO}/resolve/{SHA}/")
        if name in self.files:
            data = self.files[name]
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            self._send(handler, 200, data, body, {"ETag": etag, "X-Repo-Commit": SHA})
            return
        self._send(handler, 404, b"", body, {"X-Error-Code": "RepoNotFound"})

    @staticmethod
    def _send(
        handler: BaseHTTPRequestHandler, status: int, data: bytes, body: bool, heads: dict[str, str]
    ) -> None:
        handler.send_response(status)
        for name, value in {**heads, "Content-Length": str(len(data))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if body:
            handler.wfile.write(data)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.respond(self, True)

        def do_HEAD(self) -> None:
            found.respond(self, False)

        def log_message(self, *_: Any) -> None:
            pass

    found.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True).start()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, found.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", found.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield found
    found.server.shutdown()
    found.server.server_close()


def table(rows: int, **columns: Any) -> bytes:
    """A Parquet file as the hub has them: a label is a number, its names stand in the schema."""
    made = pa.table(
        {
            "sentence": [f"sentence {n}" for n in range(rows)],
            "label": [int(n >= rows // 2) for n in range(rows)],
        }
        | columns
    )
    features = {"sentence": {"_type": "Value"}, "label": {"_type": "ClassLabel", "names": ["bad", "good"]}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    sink = pa.BufferOutputStream()
    parquet.write_table(made.replace_schema_metadata(metadata), sink, row_group_size=1000)
    return bytes(sink.getvalue())


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_parquet_split_becomes_a_task_with_its_labels_names(served: Hub) -> None:
    served.files = {
        "data/train-00000-of-00001.parquet": table(40),
        "data/test-00000-of-00001.parquet": table(20),
    }
    path, found = hub.kept_hub_file(f"hf:{REPO}?text=sentence")
    assert str(found.asked) == f"hf:{REPO}@{SHA}:train?text=sentence"
    assert (found.rows, found.available) == (40, 40)
    assert says(found.said, REPO, "train", SHA)
    task = apart.load_file(path)
    assert (task.kind, task.labels) == ("classification", ("bad", "good"))
    assert sum(map(len, (task.load().train, task.load().test))) == 40
    assert not any("test-00000" in each for each in served.asked)


def test_more_rows_than_are_taken_are_thinned_and_keep_every_label(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = hub_rows.MAX_ROWS * 2 + 10
    served.files = {"train.parquet": table(many)}
    found = hub.fetch(f"hf:{REPO}:train?text=sentence")
    rows = [json.loads(line) for line in found.data.splitlines()]
    assert found.available == many and len(rows) == found.rows <= hub_rows.MAX_ROWS
    assert {row["label"] for row in rows} == {"bad", "good"}
    share = sum(row["label"] == "good" for row in rows) / len(rows)
    assert share == pytest.approx(0.5, abs=0.01)
    assert says(found.said, "13,337", "40,010")


def test_what_was_fetched_is_read_again_without_the_hub(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.files = {"train.csv": b"prompt,completion\n" + b"".join(b"q%d,a%d\n" % (n, n) for n in range(12))}
    first = hub.fetch(f"hf:{REPO}")
    asked = len(served.asked)
    offline(monkeypatch)
    assert hub.fetch(f"hf:{REPO}@{SHA}") == first
    assert len(served.asked) == asked


@pytest.mark.parametrize(
    ("files", "asked", "said"),
    [
        ({"reviews.py": b"print()", "README.md": b""}, f"hf:{REPO}", "a script builds"),
        ({"a/train.csv": b"", "b/train.csv": b""}, f"hf:{REPO}", f"name one, as hf:{REPO}/a:train"),
        ({"train.csv": b"", "test.csv": b""}, f"hf:{REPO}:validation", "split validation"),
        ({"train.csv": b"a,b\n1,2\n"}, f"hf:{REPO}", "State which to use"),
        ({"train.csv": b"a,b\n1,2\n"}, f"hf:{REPO}?text=c", "column 'c'"),
        ({"train.parquet": b"PAR1 no"}, f"hf:{REPO}", "train.parquet cannot be read"),
        ({"train.csv": b""}, "hf:owner/other", "owner/other"),
        ({"train.csv": b""}, "hf:alone", "names no dataset"),
        ({"train.csv": b""}, f"hf:{REPO}?words=a", "'words'"),
    ],
)
def test_what_cannot_be_read_is_said(served: Hub, files: dict[str, bytes], asked: str, said: str) -> None:
    served.files = files
    with pytest.raises(BadInput, match=said.replace("?", r"\?")) as refused:
        hub.fetch(asked)
    assert "\n" not in str(refused.value)


def test_a_class_fetches_nothing(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "class_is_on", lambda: True)
    with pytest.raises(BadInput, match="class nothing is"):
        hub.fetch(f"hf:{REPO}")
    assert not served.asked


# ----------------------------------------
# Own data that is kept: listed, removed by hand, and removed when it is old.


DAY = 24 * 3600.0


def put(home: Path, folder: str, name: str, days: float = 0) -> Path:
    path = home / folder / f"0123456789ab-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"text,label\n")
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def test_rows_of_the_hub_that_nobody_asked_for_go_when_others_are_fetched(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(text: str) -> hub.Fetched:
        data = b'{"text": "a", "label": "b"}\n' + text.encode()
        return hub.Fetched("rows.jsonl", data, replace(hub.parse(text), revision="f" * 40), 1, 1)

    monkeypatch.setattr(hub, "fetch", fetch)
    again = Path(hub.kept_hub_file("hf:owner/again")[0])
    old, recent = put(own_home, "datasets", "old.jsonl", 61), put(own_home, "datasets", "recent.jsonl", 59)
    upload = put(own_home, "uploads", "mine.csv", 400)
    os.utime(again, (time.time() - 70 * DAY,) * 2)
    assert Path(hub.kept_hub_file("hf:owner/again")[0]) == again
    assert again.exists(), "it was asked for just now"
    assert not old.exists()
    assert recent.exists() and upload.exists(), "one's own uploads stay outside a class"
