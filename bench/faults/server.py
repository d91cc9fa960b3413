"""The app as a process that campaigns may kill: Streamlit's own server, and a line of commands beside it.

``python -m bench.faults.server`` reads one JSON list a line, ``["submit", {spec}]``, ``["stop", id]``,
``["count", rank]`` or ``["pids"]``, and answers each with a JSON object: ``{"ok": ...}``, or ``{"error": ...}`` for an
error of this package, or ``{"bug": ...}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from tools.ports import free_port

ROOT = Path(__file__).parents[2]
ANSWER = 120.0  # seconds that an answer may take on a busy machine


class Hung(Exception):
    """No answer in time."""


class Server:
    """One running app, on a port and a lab folder of its own."""

    def __init__(self, home: Path, log: Path) -> None:
        self.log = log
        port = free_port()
        environment = {
            **os.environ,
            "PEFT_LAB_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "STREAMLIT_SERVER_PORT": str(port),
            "STREAMLIT_SERVER_HEADLESS": "true",
            "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
            "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        }
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench.faults.server"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, *question: Any) -> dict[str, Any]:
        """The answer to a question. Raises Hung; EOFError when the process has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise EOFError from None
        lines: list[str] = []
        reading = threading.Thread(
            target=lambda: lines.append(self.process.stdout.readline()),  # type: ignore[union-attr]
            daemon=True,
        )
        reading.start()
        reading.join(ANSWER)
        if reading.is_alive():
            raise Hung(f"{question[0]} was not answered within {ANSWER:.0f} s")
        if not lines[0]:
            raise EOFError
        answer: dict[str, Any] = json.loads(lines[0])
        return answer

    def end(self) -> None:
        """End it and what it has started."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _answer(question: list[Any]) -> Any:
    from multiprocessing import forkserver

    from peft_lab.core import inspector
    from peft_lab.methods.counting import count as counting
    from peft_lab.runs.queue import get_queue
    from peft_lab.runs.spec import RunRequest

    if question[0] == "submit":
        return get_queue().submit(RunRequest.from_dict(question[1]))
    if question[0] == "stop":
        return get_queue().stop(question[1])
    if question[0] == "count":
        return inspector.ask(counting.count, "gpt2", "lora", {"r": question[1]}).trainable
    server: Any = forkserver._forkserver
    executor: Any = inspector.get_inspector()._members[0].executor
    asked = list(executor._processes or ()) if executor is not None else []
    return {"fork server": server._forkserver_pid, "inspector": asked[0] if asked else None}


def _listen(out: Any) -> None:
    from peft_lab.core.errors import PeftLabError

    for line in sys.stdin:
        try:
            answer = {"ok": _answer(json.loads(line))}
        except PeftLabError as error:
            answer = {"error": str(error)}
        except Exception:  # noqa: BLE001  that is what is reported
            answer = {"bug": traceback.format_exc(limit=-3)}
        with contextlib.suppress(OSError):
            out.write(json.dumps(answer) + "\n")
            out.flush()


def main() -> None:
    from streamlit.web import bootstrap

    from peft_lab.core import inspector

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Streamlit prints is no answer
    inspector.warm()
    threading.Thread(target=_listen, args=(out,), daemon=True).start()
    bootstrap.load_config_options({})
    bootstrap.run(str(ROOT / "app.py"), False, [], {})


if __name__ == "__main__":
    main()
