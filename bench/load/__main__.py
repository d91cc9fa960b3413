"""What a class waits for.

    python -m bench.load http://localhost:8501 --code blue-whale --learners 30 --seconds 60 --trainings 2

All learners open a page within two seconds, each with an empty cache. Then each moves a slider, waits until all that
follows from it is there, thinks for one to five seconds, and moves another.

``--wander``: they also go to another page every eighth time. ``--moves N``: each does as many and no more, so that two
servers can be compared by the processor seconds that the same work took them (``--server PID``) where other work makes
clocks useless. ``--watch --server PID``: the server's memory, files and threads every ``--every`` seconds, and those of
its children, and what was waited for in that time. ``--think 5,20`` and ``--rest 120`` (seconds between two trainings
of one learner) make a day's use of a rush.

Figures: *page* from the request until the script's first run has ended (title, controls, words), *with figures* until
nothing on it is waited for; *slider* from letting go until the page is drawn with the new value, and *with figures*.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
from websockets.exceptions import WebSocketException

from bench.load import browser
from bench.load.browser import Browser, Failed
from bench.load.watching import watch
from peft_lab.ui.pages import method_pages, titles

WITHIN = 2.0  # seconds in which all open their first page
TRAINING = "model=minilm-l6&task=sentiment&tab=train&steps={}"
AGAIN = 10.0  # seconds until a page is opened again to see whether its training has ended
ENDLESS = 10**9
NOT_A_LEARNERS = ("classroom",)


@dataclass
class Seen:
    """What all learners waited for, in seconds, and what went wrong."""

    waited: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    received: int = 0
    trained: int = 0
    refused: int = 0
    _told: dict[str, int] = field(default_factory=dict)

    def note(self, what: str, since: float) -> None:
        self.waited.setdefault(what, []).append(time.monotonic() - since)

    def lately(self) -> dict[str, list[float]]:
        """Of each thing waited for since it was last asked: how many, p50, p95 and longest in seconds."""
        found = {}
        for what, seconds in self.waited.items():
            new = seconds[self._told.get(what, 0) :]
            self._told[what] = len(seconds)
            if new:
                found[what] = summed_up(new)
        return found


def summed_up(seconds: list[float]) -> list[float]:
    return [len(seconds), *(round(float(np.percentile(seconds, share)), 2) for share in (50, 95, 100))]


class Learner:
    """Opens a page and moves its sliders."""

    def __init__(
        self, number: int, given: argparse.Namespace, seen: Seen, threads: ThreadPoolExecutor
    ) -> None:
        self._browser = Browser(given.address, given.code)
        self._given = given
        self._random = random.Random(number)
        self._seen, self._threads = seen, threads
        self._number = number

    async def _blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def join(self) -> None:
        await self._blocking(self._browser.join)

    async def work(self, until: float, first: str, wander: bool, moves: int) -> None:
        """Until then. What fails is noted, and tried again after a while, as a learner reloads a page."""
        await asyncio.sleep(self._random.uniform(0, WITHIN))
        page, scripts = first, True
        while time.monotonic() < until:
            try:
                await self._open(page, scripts)
                await self._use(until, 8 if wander else moves)
                if moves < ENDLESS:
                    break
            except (Failed, OSError, WebSocketException) as trouble:
                self._seen.errors[f"{type(trouble).__name__}: {trouble}"[:200]] += 1
                await asyncio.sleep(2)
            scripts = False
            page = (
                self._random.choice([name for name in titles() if name not in NOT_A_LEARNERS])
                if wander
                else page
            )
        self._seen.errors.update(f"on the page: {words[:160]}" for words in self._browser.troubles)
        self._seen.received += self._browser.received
        await self._browser.close()

    async def _open(self, page: str, scripts: bool) -> None:
        since = time.monotonic()
        address = "" if page == "home" else page
        if scripts:
            await self._blocking(self._browser.load, address)
            self._seen.note("document and scripts", since)
        await self._browser.open(address)
        await self._browser.answered()
        self._seen.note("page", since)
        await self._browser.complete()
        self._seen.note("page with figures", since)

    async def _use(self, until: float, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(self._random.uniform(*self._given.think))
            await self._browser.complete()  # it may be drawn anew just now, its sliders not yet
            sliders = list(self._browser.sliders.values())
            if time.monotonic() > until or not sliders:
                return
            slider = self._random.choice(sliders)
            steps = round((slider.max - slider.min) / slider.step) if slider.step else 0
            at = self._random.randint(0, steps)
            since = time.monotonic()
            await self._browser.move(
                slider, slider.options[at] if slider.options else slider.min + at * slider.step
            )
            await self._browser.answered()
            self._seen.note("slider", since)
            await self._browser.complete()
            self._seen.note("slider with figures", since)

    async def train(self, until: float) -> None:
        """Train until then, by the page's button, and reload the page now and then to see whether it has ended."""
        address = TRAINING.format(self._given.steps)
        while time.monotonic() < until:
            try:
                await self._browser.open("lora", address)
                await self._browser.complete()
                if "Stop" not in self._browser.buttons:  # a run that an error hid goes on
                    await self._browser.press("Train")
                    await self._browser.complete()
                there = self._browser.query  # names the run by now, as after a reload
                while time.monotonic() < until:
                    await asyncio.sleep(AGAIN)
                    await self._browser.open("lora", there)  # a part drawn by itself names no other buttons
                    await self._browser.complete()
                    if "Stop" not in self._browser.buttons:
                        self._seen.trained += 1
                        break
                await asyncio.sleep(min(self._given.rest, max(0.0, until - time.monotonic())))
            except (Failed, OSError, WebSocketException) as trouble:
                self._seen.errors[f"training: {type(trouble).__name__}: {trouble}"[:200]] += 1
                await asyncio.sleep(5)
            except KeyError:  # what a learner may take up is taken up: the page says so, and has no button
                self._seen.refused += 1
                await asyncio.sleep(AGAIN)
        await self._browser.close()


async def crowd(given: argparse.Namespace) -> Seen:
    """All of them at once."""
    seen, pages = Seen(), method_pages()
    with ThreadPoolExecutor(given.learners + given.trainings + 2) as threads:
        everybody = [
            Learner(number, given, seen, threads) for number in range(given.learners + given.trainings)
        ]
        for one in everybody:
            await one.join()
        trainers, others = everybody[given.learners :], everybody[: given.learners]
        until = time.monotonic() + given.seconds
        tasks = [asyncio.create_task(one.train(until)) for one in trainers]
        if trainers:
            await asyncio.sleep(given.ahead)
            until += given.ahead
        for number, one in enumerate(others):
            tasks.append(
                asyncio.create_task(one.work(until, pages[number % len(pages)], given.wander, given.moves))
            )
        if given.watch:
            tasks.append(
                asyncio.create_task(watch(given.server, until, given.every, given.table, seen.lately))
            )
        await asyncio.gather(*tasks)
    return seen


def _range(words: str) -> tuple[float, float]:
    low, high = words.split(",")
    return float(low), float(high)


def spent(process: int | None) -> float:
    """Processor seconds that a process has had, without its children's; 0 where none is named."""
    if process is None:
        return 0.0
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address")
    parser.add_argument("--code", default="", help="the class's; without it nobody joins")
    parser.add_argument("--learners", type=int, default=30)
    parser.add_argument(
        "--think", type=_range, default=(1.0, 5.0), metavar="LOW,HIGH", help="seconds before a move"
    )
    parser.add_argument("--steps", type=int, default=500, help="of a training")
    parser.add_argument("--rest", type=float, default=0.0, help="seconds between a learner's trainings")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--moves", type=int, default=ENDLESS, help="of each learner; then it closes its page")
    parser.add_argument("--trainings", type=int, default=0, help="learners who train all the while")
    parser.add_argument(
        "--ahead", type=float, default=10.0, help="seconds that trainings have before the others come"
    )
    parser.add_argument(
        "--patience", type=float, default=browser.PATIENCE, help="seconds until waiting is an error"
    )
    parser.add_argument("--wander", action="store_true")
    parser.add_argument("--server", type=int, metavar="PID", help="its process, for what it spends and holds")
    parser.add_argument("--watch", action="store_true", help="print what it holds")
    parser.add_argument("--every", type=float, default=300.0, metavar="SECONDS")
    parser.add_argument(
        "--table", default="", metavar="FILE", help="also keep what is watched, one JSON line each"
    )
    given = parser.parse_args()
    browser.PATIENCE = given.patience
    load, before = os.getloadavg()[0], spent(given.server)
    seen = asyncio.run(crowd(given))
    print(f"{given.learners} learners, {given.trainings} training, {given.seconds:.0f} s; load {load:.1f} before, "
          f"{os.getloadavg()[0]:.1f} after; processor seconds: this tool {time.process_time():.1f}, "
          f"the server {spent(given.server) - before:.1f}")  # fmt: skip
    found = {}
    for what, seconds in seen.waited.items():
        found[what] = summed_up(seconds)
        _, middle, high, most = found[what]
        print(
            f"{what:>22}: {len(seconds):5}   p50 {middle:6.2f} s   p95 {high:6.2f} s   longest {most:6.2f} s"
        )
    print(f"{sum(seen.errors.values())} errors; {seen.trained} trainings to their end, no button to "
          f"start one at {seen.refused} looks; "
          f"{seen.received / 1e6:.1f} MB over WebSockets")  # fmt: skip
    for words, times in seen.errors.most_common(10):
        print(f"  {times} × {words}")
    print(json.dumps(found | {"errors": sum(seen.errors.values())}))


if __name__ == "__main__":
    main()
