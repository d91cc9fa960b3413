"""Whose download is whose, in a class. Streamlit serves a file that the app made to whoever knows its address."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamlit.runtime import get_instance

from peft_lab.classroom import mode
from peft_lab.replacing import Replacement
from peft_lab.ui.server.sessions import owner_of

DEFERRED = Replacement(
    "deferred download",
    "streamlit.runtime.media_file_manager",
    "MediaFileManager.execute_deferred",
    "A file that is made when its button is pressed is noted for no session, so nobody could be told whose it is.",
)
_MOST = 2000  # files; Streamlit keeps them no longer than the page that asked for them
_lock = threading.Lock()
_made: OrderedDict[str, set[str]] = OrderedDict()


@contextmanager
def noted() -> Iterator[None]:
    """While this lasts, in a class, files that are made on demand are their session's owner's."""
    if not mode.on():
        yield
        return
    own = DEFERRED.original()

    def noting(manager: Any, file: str) -> str:
        asked = getattr(manager, "_deferred_callables", {}).get(file, {})
        address: str = own(manager, file)
        owner = owner_of(str(asked.get("session_id", "")))
        if owner is not None:
            with _lock:
                _made.setdefault(_name(address), set()).add(owner)
                while len(_made) > _MOST:
                    _made.popitem(last=False)
        return address

    with DEFERRED.by(noting):
        yield


def holds_file(owner: str, file: str) -> bool:
    """Whether a page of this owner refers to a file that the app made (a download, a picture), or had it made.

    Which sessions refer to it is among Streamlit's inner parts; under a version that has them no more, nobody gets it.
    """
    with _lock:
        if owner in _made.get(_name(file), ()):
            return True
    used = getattr(get_instance().media_file_mgr, "_files_by_session_and_coord", {})
    return any(
        owner_of(session) == owner and any(_name(each) == _name(file) for each in list(files.values()))
        for session, files in list(used.items())
    )


def _name(address: str) -> str:
    """A file's own name: ``/media/abc.csv`` is ``abc``."""
    return address.rpartition("/")[2].partition(".")[0]
