"""One learner's browser without its drawing: it joins, loads the page and its scripts, opens the WebSocket, keeps
what is on the page, comes back for the parts that ask for it, and moves a slider or presses a button.

What a browser does and this does not: draw, and run the components' scripts (so no cookie of theirs, and no value).
"""

from __future__ import annotations

import asyncio
import http.client
import re
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote, urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.Navigation_pb2 import Navigation
from streamlit.proto.Slider_pb2 import Slider
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from peft_lab.ui.components.waiting import LOOKS

_FILES = re.compile(r"""(?:src|href)=["']\./([\w./-]+\.(?:js|css))["']""")
_FULL = ForwardMsg.FINISHED_SUCCESSFULLY
_PART = ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY
PATIENCE = 300.0  # seconds before an answer counts as an error: a browser waits on and on


class Failed(Exception):
    """The server did not answer as it should."""


class Browser:
    """One learner at one page.

    Attributes:
        sliders, buttons: what stands on the page, buttons by their words.
        troubles: what the page said as an exception or an error, in its own words.
        received: bytes over the WebSocket.
    """

    def __init__(self, address: str, code: str) -> None:
        found = urlsplit(address)
        self._host, self._base = found.netloc, found.path.rstrip("/")
        self._code = code
        self._http = http.client.HTTPConnection(self._host, timeout=PATIENCE)  # kept open, as a browser does
        self._cookies: dict[str, str] = {}
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._waiting: set[str] = set()
        self._known: dict[str, None] = {}  # hashes of messages that the server need not send again
        self._fragment_of: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._runs = self._asked = 0
        self._part = False  # whether a part alone was asked for, whose run ends as one of a part
        self._drawing = False
        self._drawn: set[str] = set()  # sliders and buttons of the full run that is under way
        self._lost = ""
        self._widgets: dict[str, WidgetState] = {}
        self._query = self._page = self._script = ""
        self.sliders: dict[str, Slider] = {}
        self.buttons: dict[str, str] = {}
        self.troubles: list[str] = []
        self.received = 0

    # -- over HTTP -----------------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, bytes]:
        sent = {"Cookie": self._cookie(), "Accept-Encoding": "gzip", **headers}
        try:
            self._http.request(method, self._base + path, body or None, sent)
            answer = self._http.getresponse()
        except (ConnectionResetError, BrokenPipeError):  # idle for seconds: as browsers do, connect anew
            self._http.close()
            self._http.request(method, self._base + path, body or None, sent)
            answer = self._http.getresponse()
        for line in answer.headers.get_all("set-cookie") or ():
            name, _, value = line.split(";")[0].partition("=")
            self._cookies[name] = value
        return answer.status, answer.read()

    def _cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())

    def join(self) -> None:
        """Give the code; nothing to do where there is none. Blocks."""
        if self._code:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            status, _ = self._request("POST", "/join", f"code={quote(self._code)}&name=&next=", **form)
            if status != 303:
                raise Failed(f"the code was answered with {status}")

    def load(self, page: str) -> int:
        """The page and every script and style that it names, as an empty cache asks for them; bytes. Blocks."""
        status, body = self._request("GET", f"/{page}", Accept="text/html", **{"Accept-Encoding": "identity"})
        if status != 200:
            raise Failed(f"the page {page} was answered with {status}")
        total = len(body)
        for name in dict.fromkeys(_FILES.findall(body.decode())):
            status, content = self._request("GET", f"/{name}")
            if status != 200:
                raise Failed(f"{name} was answered with {status}")
            total += len(content)
        return total

    # -- over the WebSocket --------------------------------------------------------------------------------------

    async def open(self, page: str, query: str = "") -> None:
        """A new session at this page; the first run of the script is asked for."""
        await self.close()
        self._page, self._query, self._script, self._lost = page, query, "", ""
        self._widgets, self.sliders, self.buttons = {}, {}, {}
        address = f"ws://{self._host}{self._base}/_stcore/stream"
        self._socket = await connect(
            address, subprotocols=[Subprotocol("streamlit")], max_size=None, open_timeout=PATIENCE, ping_interval=None,
            additional_headers={"Cookie": self._cookie()},
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read(self._socket))
        await self._ask()

    async def close(self) -> None:
        self._stop_coming()
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader
        self._socket = self._reader = None

    async def _ask(self, fragment: str = "", automatic: bool = False) -> None:
        message = BackMsg()
        asked = message.rerun_script
        asked.query_string, asked.page_name, asked.page_script_hash = self._query, self._page, self._script
        asked.fragment_id, asked.is_auto_rerun = fragment, automatic
        asked.widget_states.widgets.extend(self._widgets.values())
        asked.cached_message_hashes.extend(self._known)
        if not automatic:
            self._asked, self._part = self._runs, bool(fragment)
        if self._socket is None:
            raise Failed("no session is open")
        await self._socket.send(message.SerializeToString())

    async def move(self, slider: Slider, to: float | str) -> None:
        """Let go of a slider at this value (an option's words, where it has options)."""
        state = WidgetState(id=slider.id)
        if slider.options:
            state.string_array_value.data.append(str(to))
        else:
            state.double_array_value.data.append(float(to))
        self._widgets[slider.id] = state
        await self._ask(self._fragment_of.get(slider.id, ""))

    async def press(self, words: str) -> None:
        """Press the button with these words."""
        identity = self.buttons[words]
        self._widgets[identity] = WidgetState(id=identity, trigger_value=True)
        await self._ask(self._fragment_of.get(identity, ""))
        del self._widgets[identity]

    @property
    def query(self) -> str:
        """What stands in the address behind the page's name."""
        return self._query

    async def answered(self) -> None:
        """Until the run that was asked for last has ended. Raises Failed."""
        await self._until(lambda: self._runs > self._asked)

    async def complete(self) -> None:
        """Until the page waits for no answer of another process any more. Raises Failed."""
        await self._until(lambda: self._runs > self._asked and not self._drawing and not self._waiting)

    async def _until(self, met: Callable[[], bool]) -> None:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: met() or self._lost), PATIENCE)
            except TimeoutError:
                raise Failed(f"no answer within {PATIENCE:.0f} s: {self._standing()}") from None
        if self._lost:
            raise Failed(self._lost)

    def _standing(self) -> str:
        """What is still to come."""
        if self._runs == self._asked:
            return "the script has not run to its end"
        return "the page is drawn again" if self._drawing else f"{len(self._waiting)} parts wait"

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for raw in socket:
                self.received += len(raw)
                message = ForwardMsg()
                message.ParseFromString(raw if isinstance(raw, bytes) else raw.encode())
                await self._take(message)
        except ConnectionClosed as closed:
            self._lost = f"the connection was lost ({closed})"
            async with self._changed:
                self._changed.notify_all()

    async def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if message.metadata.cacheable and message.hash:
            self._known[message.hash] = None
        if kind == "new_session":
            if not message.metadata.run.fragment_ids:
                self._drawing = True
                self._drawn = set()
                self._stop_coming()
            self._script = message.new_session.page_script_hash
        elif kind == "navigation":
            await self._stand_on(message.navigation)
        elif kind == "page_info_changed":
            self._query = message.page_info_changed.query_string
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self._keep(message)
        elif kind == "auto_rerun":
            self._come_back(message.auto_rerun.fragment_id, message.auto_rerun.interval)
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                self._stop(fragment)
        elif kind == "script_finished":
            if message.script_finished == _FULL:
                self._runs += 1
                self._drawing = False
                self._forget()
            elif message.script_finished == _PART and self._part:
                self._runs += 1
            async with self._changed:
                self._changed.notify_all()

    async def _stand_on(self, navigation: Navigation) -> None:
        """What is asked from now on is asked of the page that was drawn, which has to be the one that it opened."""
        self._script = navigation.page_script_hash
        names = {
            page.page_script_hash: "" if page.is_default else page.url_pathname
            for page in navigation.app_pages
        }
        if names.get(self._script) != self._page:
            self._lost = (
                f"the page {self._page or 'home'} was asked for and {names.get(self._script)!r} drawn"
            )
            async with self._changed:
                self._changed.notify_all()

    def _forget(self) -> None:
        """Leave what was not drawn again: nobody could move it, and the server does not answer for its part."""
        self.sliders = {name: slider for name, slider in self.sliders.items() if name in self._drawn}
        self.buttons = {words: name for words, name in self.buttons.items() if name in self._drawn}

    def _keep(self, message: ForwardMsg) -> None:
        element, fragment = message.delta.new_element, message.delta.fragment_id
        kind = element.WhichOneof("type")
        if kind == "slider" and not element.slider.disabled:
            self.sliders[element.slider.id] = element.slider
            self._fragment_of[element.slider.id] = fragment
            self._drawn.add(element.slider.id)
        elif kind == "button" and not element.button.disabled:
            self.buttons[element.button.label] = element.button.id
            self._fragment_of[element.button.id] = fragment
            self._drawn.add(element.button.id)
        elif kind == "exception":
            self.troubles.append(element.exception.message)
        elif kind == "alert" and element.alert.format == element.alert.ERROR:
            self.troubles.append(element.alert.body)

    # -- parts that are drawn again by themselves ----------------------------------------------------------------

    def _come_back(self, fragment: str, every: float) -> None:
        self._stop(fragment)
        if every in LOOKS:
            self._waiting.add(fragment)

        async def work() -> None:
            with suppress(Failed, ConnectionClosed):
                while True:
                    await asyncio.sleep(every)
                    await self._ask(fragment, automatic=True)

        self._coming[fragment] = asyncio.create_task(work())

    def _stop(self, fragment: str) -> None:
        self._waiting.discard(fragment)
        if fragment in self._coming:
            self._coming.pop(fragment).cancel()

    def _stop_coming(self) -> None:
        for fragment in list(self._coming):
            self._stop(fragment)
