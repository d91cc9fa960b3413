"""Messages that no browser of the app's sends, over its WebSocket: widgets with values of another kind, out of range or
unknown, pages, parts and files that there are none of, and bytes that are no message.

Wrong is an exception on the page or in the server's log, a page that does not come to rest, or a server that then does
not draw another browser's page.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bench.faults.rows import LIMIT, Outcome, Place, Row
from tests.browser.conftest import served

TIMES = 200
PAGES = (
    "", "lora", "qlora", "choose", "memory", "plan", "compare", "sweeps", "playground", "runs", "practice", "tour",
    "teach", "clinic", "atlas",
)  # fmt: skip
MESSAGES = 5  # in one session, after the page has been drawn
_NUMBERS = (0.0, -1.0, 1e308, -1e308, float("nan"), float("inf"), 0.5, 2.0**63)
_WHOLE = (0, -1, 2**63 - 1, -(2**63), 7)
_TEXTS = (
    "", " ", "x", "x" * 100_000, "\0", "\u202e", "{", "null", "[]", "3", '{"a": 1}', '{"value": NaN}', "[" * 5000,
    "../../etc/passwd", "<script>alert(1)</script>", "1e999", "2020-99-99", "lora", "\ud7ff",
)  # fmt: skip


#: Which field a browser sends for each element, by its number in :func:`_value`.
_KINDS = {
    "button": (0,), "checkbox": (1,), "number_input": (2, 3), "text_input": (4,), "text_area": (4,), "selectbox": (4,),
    "radio": (4,), "slider": (5, 7), "multiselect": (7,), "button_group": (7,), "date_input": (7,),
    "time_input": (4,), "bidi_component": (9, 13), "file_uploader": (11,), "download_button": (0,), "feedback": (4,),
}  # fmt: skip


def _value(chance: random.Random, state: WidgetState, element: str) -> None:
    """Any value of the kind that an element's browser part sends, now and then of any other."""
    kind = chance.choice(_KINDS.get(element, range(14))) if chance.random() < 0.9 else chance.randrange(14)
    text, whole, number = chance.choice(_TEXTS), chance.choice(_WHOLE), chance.choice(_NUMBERS)
    if kind == 0:
        state.trigger_value = chance.random() < 0.8
    elif kind == 1:
        state.bool_value = chance.random() < 0.5
    elif kind == 2:
        state.double_value = number
    elif kind == 3:
        state.int_value = whole
    elif kind == 4:
        state.string_value = text
    elif kind == 5:
        state.double_array_value.data.extend(chance.choices(_NUMBERS, k=chance.randrange(4)))
    elif kind == 6:
        state.int_array_value.data.extend(chance.choices(_WHOLE, k=chance.randrange(4)))
    elif kind in (7, 8):
        state.string_array_value.data.extend(chance.choices(_TEXTS, k=chance.randrange(4)))
    elif kind == 9:
        state.json_value = json.dumps(_content(chance))
    elif kind == 10:
        state.bytes_value = chance.randbytes(40)
    elif kind == 11:
        made = state.file_uploader_state_value.uploaded_file_info.add()
        made.file_id, made.name, made.size = text[:99], text[:99], max(0, whole)
    elif kind == 12:
        state.string_trigger_value.data = text
    else:
        events = [
            {"event": chance.choice(_EVENTS), "value": _content(chance)} for _ in range(chance.randint(1, 3))
        ]
        state.json_trigger_value = json.dumps(events)


def _content(chance: random.Random) -> Any:
    """What a component of the app's own may be made to send."""
    kept: Any = chance.choice((*_TEXTS[:11], *_WHOLE, *_NUMBERS[:3], None, True, [], {}, [[]], {"a": {}}))
    return {chance.choice(_EVENTS): kept for _ in range(3)} if chance.random() < 0.5 else kept


#: Names under which components of the app's send something.
_EVENTS = ("chosen", "picked", "value", "step", "part", "state", "moved", "asked", "pressed", "text", "a")


class _Session:
    """A WebSocket, and what was drawn over it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.ids, self.fragments, self.script = socket, dict[str, str](), set[str](), ""
        self.outcome, self.refused = Outcome(), False

    async def ask(self, message: BackMsg) -> None:
        """Send it and read until the script rests; Streamlit answers nothing to some."""
        await self.socket.send(message.SerializeToString())
        await self.rest()

    async def rest(self) -> None:
        running = False
        while True:
            try:
                raw = await asyncio.wait_for(self.socket.recv(), LIMIT if running else 3.0)
            except TimeoutError:
                if running:
                    self.outcome.hung = True
                return
            message = ForwardMsg()
            message.ParseFromString(raw if isinstance(raw, bytes) else raw.encode())
            kind = message.WhichOneof("type")
            if kind == "new_session":
                running, self.script = True, message.new_session.page_script_hash
            elif kind == "delta":
                self._keep(message)
            elif kind == "script_finished":
                return

    def _keep(self, message: ForwardMsg) -> None:
        if message.delta.fragment_id:
            self.fragments.add(message.delta.fragment_id)
        element = message.delta.new_element
        kind = element.WhichOneof("type")
        if kind == "exception":
            told = "\n".join(element.exception.stack_trace)
            if "peft_lab" not in told:
                self.refused = (
                    True  # Streamlit's own answer to a value of another kind, before any code of the app's
                )
            else:
                self.outcome.traceback = (
                    f"{element.exception.type}: {element.exception.message}\n{told[-1500:]}"
                )
        drawn = getattr(element, kind) if kind else None
        if drawn is not None and isinstance(getattr(drawn, "id", None), str) and drawn.id:
            self.ids[drawn.id] = str(kind)


def _forged(chance: random.Random, session: _Session, page: str) -> BackMsg:
    message = BackMsg()
    asked = message.rerun_script
    asked.page_name, asked.page_script_hash = page, session.script
    known = [*session.ids] or ["none"]
    for identity in chance.sample(known, min(len(known), chance.randint(1, 6))):
        state = asked.widget_states.widgets.add()
        state.id = identity if chance.random() < 0.95 else identity[: chance.randrange(len(identity))]
        _value(chance, state, session.ids.get(identity, ""))
    other = chance.random()
    if other < 0.15:
        asked.fragment_id = chance.choice([*session.fragments, "no-such-part"])
    elif other < 0.2:
        asked.page_script_hash = "0" * 32
    elif other < 0.25:
        asked.page_name = chance.choice(_TEXTS)[:2000]
    elif other < 0.35:
        names = ("model", "tab", "r", "run", "%")
        pairs = [f"{chance.choice(names)}={text[:50]}" for text in chance.choices(_TEXTS, k=3)]
        asked.query_string = "&".join(pairs)
    return message


def _odd(chance: random.Random) -> bytes:
    """What is no request to draw a page."""
    message, kind = BackMsg(), chance.randrange(6)
    if kind == 0:
        return chance.randbytes(60)
    if kind == 1:
        message.file_urls_request.request_id = "x"
        message.file_urls_request.file_names.extend(["../../a", "b" * 5000])
    elif kind == 2:
        message.backend_operation_request.request_id = "y"
        message.backend_operation_request.deferred_file.file_id = "../../etc/passwd"
    elif kind == 3:
        message.clear_cache = True
    elif kind == 4:
        message.debug_shutdown_runtime = True
    else:
        message.stop_script = True
    return message.SerializeToString()


async def _session(address: str, page: str, chance: random.Random, refused: list[str]) -> Outcome:
    start = time.monotonic()
    socket = await connect(
        address,
        subprotocols=[Subprotocol("streamlit")],
        max_size=None,
        open_timeout=LIMIT,
        ping_interval=None,
    )
    session = _Session(socket)
    try:
        first = BackMsg()
        first.rerun_script.page_name = page
        await session.ask(first)
        if not session.ids and page:
            session.outcome.faults.append("the page was not drawn")
        for _ in range(MESSAGES):
            if chance.random() < 0.1:
                await socket.send(_odd(chance))
            await session.ask(_forged(chance, session, page))
            if not session.outcome.fine:
                break
            if session.refused:
                refused.append(page)
                session.refused = False
    except ConnectionClosed:
        pass  # of a message that is none Streamlit closes the session
    finally:
        await socket.close()
    session.outcome.seconds = time.monotonic() - start
    return session.outcome


def _sessions(url: str, times: int, refused: list[str]) -> Iterator[tuple[str, Outcome]]:
    chance = random.Random(0)
    for number in range(times):
        page = PAGES[number % len(PAGES)]
        yield (
            f"{number}, page {page or 'home'}",
            asyncio.run(_session(url.replace("http://", "ws://") + "/_stcore/stream", page, chance, refused)),
        )


def run(place: Place, times: int) -> Iterator[Row]:
    """One row."""
    home = place.home("home")
    log = place.scratch / "server.log"
    refused: list[str] = []
    with served(home, log) as url:
        row: Any = Row(f"forged messages of widgets, {MESSAGES} a session").take(
            place.in_time(_sessions(url, times, refused)), "a page at rest; the next browser's page is drawn"
        )
    for part in log.read_text("utf-8", "replace").split("Traceback")[1:]:
        if "peft_lab/" in part:
            row.traceback(f"the server's log: {part[-900:]}")
    row.notes += f"; {len(refused)} of {MESSAGES * row.tried} were refused by Streamlit itself"
    yield row
