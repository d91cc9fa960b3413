"""One campaign in a process of its own: some load torch, some fork, some replace PEFT_LAB_HOME."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from bench.faults.rows import Place, Row

QUICK = 20  # a quick campaign tries one in so many


def rows(name: str, place: Place, times: int | None, quick: bool) -> Iterator[Row]:
    """A campaign's rows as they come. Raises SystemExit if it breaks off."""
    making = multiprocessing.get_context("spawn")
    here, there = making.Pipe(duplex=False)
    child = making.Process(target=_run, args=(there, name, place, times, quick))
    child.start()
    there.close()
    try:
        while True:
            yield here.recv()
    except EOFError:
        child.join()
    if child.exitcode:
        raise SystemExit(f"the campaign {name} ended with exit code {child.exitcode}")


def _run(pipe: Any, name: str, place: Place, times: int | None, quick: bool) -> None:
    """Ends without multiprocessing's own ending, which waits for worker processes that nobody has asked to end."""
    code = 1
    try:
        _send_rows(pipe, name, place, times, quick)
        code = 0
    except Exception:  # noqa: BLE001  told, and the exit code says so
        traceback.print_exc()
    finally:
        pipe.close()
        sys.stderr.flush()
        os._exit(code)


def _send_rows(pipe: Any, name: str, place: Place, times: int | None, quick: bool) -> None:
    place.scratch.mkdir()
    os.environ["PEFT_LAB_HOME"] = str(place.home("home"))
    campaign = importlib.import_module(f"bench.faults.campaigns.{name}")
    often = times or (max(1, campaign.TIMES // QUICK) if quick else campaign.TIMES)
    for row in campaign.run(place, often):
        pipe.send(row)
