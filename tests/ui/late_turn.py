"""A part of a page asked for in the moment when the page's run has ended and the server has not yet taken in its last
messages: a loop that is busy with other learners comes to the request first.

It is made to happen: the server's loop is held while the script ends, and the request handed to it before it goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime import Runtime, RuntimeConfig
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType
from streamlit.runtime.session_manager import SessionClient

# It looks into parts of Streamlit that are exported by nobody.


Answer = TypeVar("Answer")
WHOLE = ForwardMsg.FINISHED_SUCCESSFULLY
PART = ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY
LAST = "the page's last words"
GATE = threading.Event()
SCRIPT = """
import streamlit as st
from tests.ui import late_turn

st.fragment(lambda: st.write("part"), run_every=60)()
late_turn.GATE.wait(60)
st.write(late_turn.LAST)
"""


PAGES = """
import streamlit as st
from tests.ui import late_turn

def first():
    st.fragment(lambda: st.write("part"), run_every=60)()

def second():
    st.write("begun")
    late_turn.GATE.wait(60)
    st.write(late_turn.LAST)

st.navigation([st.Page(first, default=True), st.Page(second)]).run()
"""


class Client(SessionClient):
    """A browser's end of the connection: it keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[ForwardMsg] = []

    def write_forward_msg(self, msg: ForwardMsg) -> None:
        self.sent.append(msg)


def sent(folder: Path, patience: float = 20.0) -> list[ForwardMsg]:
    """All that a browser is sent whose request for a part comes in that moment, until the part is drawn.

    Raises AssertionError when something has not come within ``patience`` seconds."""

    async def asked_too_soon(runtime: Runtime) -> list[ForwardMsg]:
        client, session, message = _asked_first(runtime)
        await until(lambda: bool(_parts(client)), patience)
        known: Any = runtime._session_mgr.get_active_session_info(session)
        runner = known.session._scriptrunner

        GATE.set()
        held = time.monotonic()
        while runner._requests._state is not ScriptRequestType.STOP:  # the loop does nothing meanwhile
            assert time.monotonic() - held < patience
            time.sleep(0.005)
        message.rerun_script.fragment_id = _parts(client)[0]
        runtime.handle_backmsg(session, message)

        await until(lambda: PART in finished(client.sent), patience)
        return client.sent

    return served(folder, SCRIPT, asked_too_soon)


def drawn_meanwhile(folder: Path, timer: bool, patience: float = 20.0) -> tuple[list[ForwardMsg], list[str]]:
    """What a browser is sent from a click on a link on, whose request for a part of the page before comes while the
    next one is drawn; and the two pages' names as Streamlit has them.

    Args:
        timer: whether a timer asks; else somebody's press.
    """

    async def asked_too_late(runtime: Runtime) -> tuple[list[ForwardMsg], list[str]]:
        client, session, message = _asked_first(runtime)
        await until(lambda: WHOLE in finished(client.sent), patience)
        (navigation,) = (each.navigation for each in client.sent if each.HasField("navigation"))
        names = [page.page_script_hash for page in navigation.app_pages]
        part = _parts(client)[0]
        client.sent.clear()
        message.rerun_script.page_script_hash = names[1]
        runtime.handle_backmsg(session, message)
        await until(lambda: "begun" in words(client.sent), patience)
        message.rerun_script.page_script_hash = names[0]
        message.rerun_script.fragment_id = part
        message.rerun_script.is_auto_rerun = timer
        runtime.handle_backmsg(session, message)
        GATE.set()
        known: Any = runtime._session_mgr.get_active_session_info(session)
        await until(lambda: known.session._scriptrunner is None, patience)
        # The last messages may still be on their way to the browser.
        last = LAST if timer else "part"
        await until(lambda: words(client.sent)[-1:] == [last], patience)
        return client.sent, names

    return served(folder, PAGES, asked_too_late)


def _asked_first(runtime: Runtime) -> tuple[Client, str, BackMsg]:
    """A browser that has opened the page, its session, and what it asked."""
    GATE.clear()
    client = Client()
    session = runtime.connect_session(client, {})
    message = BackMsg()
    message.rerun_script.query_string = ""
    runtime.handle_backmsg(session, message)
    return client, session, message


def opened(messages: list[ForwardMsg]) -> list[str]:
    """The pages whose runs have begun, in order."""
    return [each.new_session.page_script_hash for each in messages if each.HasField("new_session")]


def served(folder: Path, script: str, meanwhile: Callable[[Runtime], Awaitable[Answer]]) -> Answer:
    """What ``meanwhile`` finds at a server of this script."""
    page = folder / "page.py"
    page.write_text(script, "utf-8")

    async def work() -> Answer:
        runtime = Runtime(
            RuntimeConfig(str(page), MemoryMediaFileStorage("/media"), MemoryUploadedFileManager("/upload"))
        )
        await runtime.start()
        try:
            return await meanwhile(runtime)
        finally:
            runtime.stop()
            await runtime.stopped

    before, Runtime._instance = Runtime._instance, None
    # Once for a process, Streamlit looks whether a folder of pages lies beside the script: beside this one none does.
    kind, PagesManager.uses_pages_directory = PagesManager.uses_pages_directory, False
    try:
        return asyncio.run(work())
    finally:
        Runtime._instance = before
        PagesManager.uses_pages_directory = kind


def finished(messages: list[ForwardMsg]) -> list[int]:
    """How the runs ended of which the browser was told."""
    return [each.script_finished for each in messages if each.HasField("script_finished")]


def words(messages: list[ForwardMsg]) -> list[str]:
    """What stands on the page."""
    return [each.delta.new_element.markdown.body for each in messages if each.HasField("delta")]


def _parts(client: Client) -> list[str]:
    return [each.auto_rerun.fragment_id for each in client.sent if each.HasField("auto_rerun")]


async def until(met: Callable[[], bool], patience: float) -> None:
    """Raises AssertionError when it is not so within ``patience`` seconds."""
    began = time.monotonic()
    while not met():
        assert time.monotonic() - began < patience, "the server does not answer"
        await asyncio.sleep(0.01)
