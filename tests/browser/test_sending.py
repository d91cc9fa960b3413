"""How the server sends: an answer's head and body at once, without waiting for the other side's acknowledgement."""

from __future__ import annotations

import http.client
import re
import sys
import time
from urllib.parse import urlsplit

import pytest

ACKNOWLEDGED = 0.04  # seconds after which Linux acknowledges at the latest


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not run on Windows")
def test_no_answer_waits_for_an_acknowledgement(app_url: str) -> None:
    """Of many, as other work may delay some; all of them took 44 ms where Nagle's algorithm was on."""
    kept = http.client.HTTPConnection(urlsplit(app_url).netloc)
    kept.request("GET", "/", headers={"Accept": "text/html"})
    names = re.findall(r'href="\./(static/js/[\w./-]+\.js)"', kept.getresponse().read().decode())
    took = []
    for name in names[:60]:
        since = time.monotonic()
        kept.request("GET", f"/{name}", headers={"Accept-Encoding": "gzip"})
        assert kept.getresponse().read()
        took.append(time.monotonic() - since)
    assert len(took) == 60 and sorted(took)[15] < ACKNOWLEDGED / 2, took
