"""Hostile addresses on every page, opened in one Chromium against one running app.

Wrong is: an exception on the screen, an error of the page's own code, a request to any other host, a picture or link
that an address put there, a page that does not come to rest.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

from playwright.sync_api import Error, TimeoutError, sync_playwright

from bench.faults.rows import LIMIT, Outcome, Place, Row
from bench.faults.watching import tracebacks_of
from tests.browser.conftest import served
from tests.browser.driver import CHROMIUM_FLAGS, chromium_path, settled

TIMES = 300
FOREIGN = "foreign.invalid"

#: What pages and what surrounds them read out of an address, besides a method's own knobs.
NAMES = (
    "model",
    "task",
    "tab",
    "run",
    "steps",
    "batch",
    "lr",
    "seed",
    "rows",
    "topic",
    "level",
    "device",
    "profile",
    "claim",
    "belief",
    "method",
    "methods",
    "card",
    "path",
    "stop",
    "fixed",
    "projector",
    "quiz",
    "view",
    "r",
    "target_modules",
    "num_virtual_tokens",
    "lora_alpha",
    "dtype",
    "length",
    "question",
    "learner",
    "name",
    "seeds",
)
VALUES = (
    f"![x](http://{FOREIGN}/a.png)",
    f"[press](http://{FOREIGN}/)",
    f"<img src=http://{FOREIGN}/b.png>",
    f"<script src=http://{FOREIGN}/c.js></script>",
    "<script>throw Error('ran')</script>",
    "<style>*{display:none}</style>",
    f"x](http://{FOREIGN}/) ![y](//{FOREIGN}/d.png",
    f"http://{FOREIGN}/",
    f"//{FOREIGN}/e.png",
    "javascript:alert(1)",
    f"` ![x](http://{FOREIGN}/f.png) `",
    f"' ![x](http://{FOREIGN}/g.png) '",
    ":red[x] :material/error:",
    "$\\frac{1}{0}$",
    "$$x",
    "**bold** _it_ ~~s~~ # h",
    "| a | b |\n|---|---|",
    "# heading",
    "\n\n# heading",
    "a\x00b",
    "\u202egnp.exe",
    "\ufeff",
    "\u200b",
    "x" * 8000,
    "-1",
    "0",
    "1e999",
    "NaN",
    "-inf",
    "9" * 400,
    "1_000",
    "٣",
    "null",
    "None",
    "[]",
    "{}",
    "[1,2",
    "true",
    "",
    " ",
    ",",
    ",,,",
    "../../etc/passwd",
    "/etc",
    "..",
    "/dev/zero",
    "~root",
    "a/b",
    "owner/name",
    "C:\\windows",
    "%",
    "%ff",
    "%00",
    "%u0041",
    "__class__",
    "{0.__class__}",
    "${7*7}",
    "{{7*7}}",
    "'; drop table runs;--",
    "lora,lora,nope",
    "q_proj,![x](http://foreign.invalid/h.png)",
    "H4sIAAAAAAAAAw==",
    "eyJhIjoxfQ==",
    "eJxLSixKAgACxAEs",
    "=cmd|'/c calc'!A1",
)
#: Paths that are no page.
PATHS = (
    "lora/lora",
    "q/qlora",
    "nope",
    "%2e%2e/lora",
    "lora%00",
    "pages/lora",
    "_stcore/x",
    "lora/",
    f"/{FOREIGN}/lora",
    "LORA",
)

# by host: a link within the app may carry what its address says
_ADDED = """(foreign) => [...document.querySelectorAll('img, a, script, iframe, link, video, object, embed')]
  .map((one) => one.src || one.href || one.data || '')
  .filter((address) => URL.canParse(address) && new URL(address).hostname === foreign).length"""


def addresses(amount: int = TIMES, seed: int = 0) -> Iterator[str]:
    """Addresses without the host: every value once, then odd paths, then random pages, names and values."""
    from peft_lab.ui.pages import titles

    rng = random.Random(seed)
    pages = [name if name != "home" else "" for name in titles()]
    made: list[str] = []
    for number, value in enumerate(VALUES):
        names = rng.sample(NAMES, 8)
        made.append(f"/{pages[number % len(pages)]}?{'&'.join(f'{name}={_quoted(value)}' for name in names)}")
    made += [f"/{path}?model={quote(VALUES[0])}" for path in PATHS]
    # what was found: these names on the pages that read them
    told = ("model", "tab", "topic", "device", "profile", "claim", "task", "method", "methods", "run")
    made += [f"/{page}?{'&'.join(f'{name}={quote(VALUES[0])}' for name in told)}" for page in pages]
    while len(made) < amount:
        pairs = [f"{rng.choice(NAMES)}={_quoted(rng.choice(VALUES))}" for _ in range(rng.randint(1, 10))]
        made.append(f"/{rng.choice(pages)}?{'&'.join(pairs)}")
    return iter(made[:amount])


def _quoted(value: str) -> str:
    return value if value in ("%ff", "%00", "%u0041") else quote(value, safe="")


def run(place: Place, times: int) -> Iterator[Row]:
    """One row. Needs Playwright and a Chromium."""
    home = place.home("home")
    with served(home, place.scratch / "server.log") as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        found = ((address[:200], _opened(context, url, address)) for address in addresses(times))
        row = Row("hostile addresses").take(
            place.in_time(found), "a page at rest or a plain not found; nothing foreign"
        )
        browser.close()
    tracebacks_of(row, place.scratch / "server.log", "the server's log")
    yield row


def _opened(context: Any, url: str, address: str) -> Outcome:
    outcome, start = Outcome(), time.monotonic()
    page = context.new_page()  # a new session of the app's each time
    own = urlsplit(url).hostname
    page.on("pageerror", lambda error: outcome.faults.append(f"page error: {str(error)[:200]}"))
    page.on("request", lambda asked: _own(outcome, own, asked.url))
    try:
        answer = page.goto(url + address, timeout=LIMIT * 1000)
        if answer is not None and answer.status >= 400:
            return outcome  # no address of the app's, and said so
        page.wait_for_selector('[data-testid="stApp"]', timeout=LIMIT * 1000)
        settled(page, LIMIT)
        shown = page.locator('[data-testid="stException"]')
        if shown.count():
            outcome.traceback = shown.first.inner_text()[:2000]
        if added := page.evaluate(_ADDED, FOREIGN):
            outcome.faults.append(f"{added} pictures or links put in by the address")
    except AssertionError as error:
        outcome.hung = True
        outcome.faults.append(str(error)[:300])
    except TimeoutError:
        outcome.faults.append("a blank page")
    except Error as error:
        outcome.faults.append(f"not opened: {str(error)[:200]}")
    finally:
        page.close()
    outcome.seconds = time.monotonic() - start
    outcome.faults = list(dict.fromkeys(outcome.faults))
    return outcome


def _own(outcome: Outcome, own: str | None, asked: str) -> None:
    host = urlsplit(asked).hostname
    if host not in (own, None):
        outcome.faults.append(f"foreign request: {host}")
