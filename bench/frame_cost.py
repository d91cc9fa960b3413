"""What a page costs the processor in Chromium: by Chrome's own tracing, in CPU time of the page's main thread.

Unlike the time between two frames, CPU time says little of what else runs on the machine.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page

#: What the events of the timeline are counted as; time of an event inside another one is counted once, as the inner.
KINDS: Mapping[str, tuple[str, ...]] = {
    "script": (
        "EvaluateScript", "FunctionCall", "EventDispatch", "FireAnimationFrame", "RunMicrotasks", "MinorGC", "MajorGC",
    ),
    "style": ("UpdateLayoutTree",),
    "layout": ("Layout",),
    "paint": ("PrePaint", "Paint", "Layerize", "Commit"),
}  # fmt: skip
_KIND = {event: kind for kind, events in KINDS.items() for event in events}
_CATEGORIES = ["devtools.timeline", "disabled-by-default-devtools.timeline", "v8"]


def by_kind(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Milliseconds of CPU by kind, from the events of a trace."""
    threads: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and "tdur" in event and event["name"] in _KIND:
            threads[event["pid"], event["tid"]].append(event)
    found: Counter[str] = Counter()
    for thread in threads.values():
        outer: list[Mapping[str, Any]] = []
        for event in sorted(thread, key=lambda one: (one["tts"], -one["tdur"])):
            while outer and outer[-1]["tts"] + outer[-1]["tdur"] <= event["tts"]:
                outer.pop()
            found[_KIND[event["name"]]] += event["tdur"]
            if outer:
                found[_KIND[outer[-1]["name"]]] -= event["tdur"]
            outer.append(event)
    return {kind: found[kind] / 1000 for kind in KINDS}


@contextmanager
def traced(browser: Browser, page: Page) -> Iterator[Callable[[], dict[str, float]]]:
    """Trace what happens inside; afterwards the function that is handed out says :func:`by_kind`."""
    session = browser.new_browser_cdp_session()
    events: list[Mapping[str, Any]] = []
    ended: list[bool] = []
    session.on("Tracing.dataCollected", lambda sent: events.extend(sent["value"]))
    session.on("Tracing.tracingComplete", lambda _: ended.append(True))
    wanted = {"includedCategories": _CATEGORIES}
    session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": wanted})
    yield lambda: by_kind(events)
    session.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(50)
    session.detach()


def share_of_a_core(browser: Browser, page: Page, seconds: float) -> float:
    """How busy all of Chromium's processes together keep one core while the page does what it does."""
    session = browser.new_browser_cdp_session()
    before, begun = _seconds(session), time.monotonic()
    page.wait_for_timeout(1000 * seconds)
    after, passed = _seconds(session), time.monotonic() - begun
    session.detach()
    return sum(after[one] - before.get(one, 0.0) for one in after) / passed


def _seconds(session: CDPSession) -> dict[int, float]:
    return {one["id"]: one["cpuTime"] for one in session.send("SystemInfo.getProcessInfo")["processInfo"]}
