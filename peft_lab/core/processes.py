"""Start child processes for training runs and for questions, and set them up.

On Linux children come from a fork server that has done the slow imports (a new process takes 0.1 s instead of 5 s). The
server must not compute anything: OpenMP threads do not survive a fork, so tensor arithmetic before it would make a
child hang. On other systems children are spawned.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import connection
from multiprocessing.context import (
    BaseContext,
    ForkServerContext,
    ForkServerProcess,
    SpawnContext,
    SpawnProcess,
)
from pathlib import Path
from typing import Any

from peft_lab.core import asking, machine
from peft_lab.core.errors import Replacement

# By module name, because the fork server knows nothing else. Transformers loads lazily, so its parts are named.
PRELOADED = (
    "peft_lab.core.quiet",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.generation.utils",
    "bitsandbytes",
    "transformers.integrations.bitsandbytes",
    "transformers.quantizers.quantizer_bnb_4bit",
    "peft",
    "peft.tuners.lora.bnb",
    "peft.utils.transformers_weight_conversion",
    "accelerate",
    "peft_lab.core.ahead",
    "peft_lab.methods.every",
    "peft_lab.methods.counting.count",
    "peft_lab.runs.child",
    "peft_lab.runs.training",
    "peft_lab.runs.respond",
)


@cache
def context() -> BaseContext:
    """Return the multiprocessing context for every child of this package."""
    _prepare_environment()
    if sys.platform != "linux":
        return _Spawn()
    made = _ForkServer()
    made.set_forkserver_preload(list(PRELOADED))
    return made


def start_server() -> None:
    """Start the fork server, which imports in the background for some seconds. Returns at once."""
    context()
    if sys.platform == "linux":
        from multiprocessing import forkserver

        forkserver.ensure_running()


def _prepare_environment() -> None:
    """Set the environment variables that children need. Call it before the first child starts."""
    # OpenMP threads that spin without end turn a step of one second into one of ten on a busy machine; threads that
    # sleep at once are woken 3,000 times a step. So one learner's spin for about 0.2 ms, then sleep; a class's sleep.
    if "OMP_WAIT_POLICY" not in os.environ and not asking.class_is_on():
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # The fork server imports before it learns this process's sys.path.
    root = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, known)])


MAIN_SCRIPT = Replacement(
    "main script",
    "multiprocessing.spawn",
    "get_preparation_data",
    "A child imports its parent's main script again: under Streamlit that is the app, and the page would run there.",
)
_STARTING = threading.Lock()  # one at a time, so that the standard library's own is what is put back


@contextmanager
def leaving_main_alone() -> Iterator[None]:
    """Keep children that this thread (no other) starts inside the block from importing the main script."""
    this_thread = threading.get_ident()
    with _STARTING:
        prepare = MAIN_SCRIPT.original()

        def without_main(name: str) -> dict[str, Any]:
            data: dict[str, Any] = prepare(name)
            if threading.get_ident() == this_thread:
                data.pop("init_main_from_path", None)
                data.pop("init_main_from_name", None)
            return data

        with MAIN_SCRIPT.by(without_main):
            yield


class _ForkServerChild(ForkServerProcess):
    def start(self) -> None:
        with leaving_main_alone():
            super().start()


class _SpawnChild(SpawnProcess):
    def start(self) -> None:
        with leaving_main_alone():
            super().start()


class _ForkServer(ForkServerContext):
    Process = _ForkServerChild


class _Spawn(SpawnContext):
    Process = _SpawnChild


def settle_child(home: str, threads: int | None = None, orphaned: Callable[[], None] | None = None) -> None:
    """Set up a child process: end it with its parent, ignore Ctrl-C, and limit it to ``threads`` cores. Every child
    calls it first. ``home``: the parent's PEFT_LAB_HOME (the fork server's environment may be older). ``orphaned``:
    called from a thread when the parent is gone, and must end this process; by default it ends at once."""
    os.environ["PEFT_LAB_HOME"] = home
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _watch_parent(orphaned)
    import torch

    torch.set_num_threads(threads or machine.cores())
    # What the fork server has loaded stays to the end: a collection that walks it takes 0.3 s, as long as a simulation.
    gc.freeze()


#: Added to the niceness of a class's processes that no page waits for. A slider moved during a training is then drawn
#: first; while nobody moves one, the training has the machine to itself as before.
SIMULATES_AFTER, TRAINS_AFTER = 5, 10


def niceness() -> int:
    """Return this process's niceness: 0 by default, 19 yields to all others; 0 if the system has none."""
    return os.nice(0) if hasattr(os, "nice") else 0


def give_way(by: int, always: bool = False) -> None:
    """Raise this process's niceness by ``by`` in a class, or ``always``, so that others run first."""
    if by and (always or asking.class_is_on()) and hasattr(os, "nice"):
        os.nice(by)


def _watch_parent(orphaned: Callable[[], None] | None) -> None:
    """End this process with its parent, by the parent's sentinel: PR_SET_PDEATHSIG fires at the end of the *thread*
    that made the child."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        if orphaned is not None:
            orphaned()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
