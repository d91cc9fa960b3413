"""Compare, Choose a method and Fact check: every figure on the page stands beside the badge of its source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from peft_lab.choose.answers import OWN_LIMIT
from peft_lab.compare.shipped import all_shipped
from peft_lab.memory.devices import devices
from peft_lab.models import catalogue
from peft_lab.units import Source
from tests.ui.test_choose import opened

BADGE = re.compile("|".join(rf"-badge\[{source}\]|source {source}" for source in Source))
# What a person said or set, what was said by others, and who they are: no figures that the page found.
YOURS = (
    ":gray-badge[you]",
    OWN_LIMIT,
    " of them done already",
    "Setting</th>",
    "as a link](",
)
LISTED = re.compile(r"\d+ claims: |\d+ of these claims|\d+ runs of \d+ steps")  # how much was asked for
QUOTED = ("**It says**", ":small[How:", ":small[Kept from a run", ":small[[PEFT library")
NAMES = re.compile(
    "|".join(
        [
            *(re.escape(entry.title) for entry in catalogue().values()),
            *(re.escape(name) for name in catalogue()),
            *(re.escape(device.title) for device in devices().values()),
            r"<h\d|#{1,6} |P-Tuning v2|tabindex=\S+|within \d+ steps on the small models",
        ]
    )
)
PAGES = [
    *(("compare", {"comparison": name}) for name in all_shipped()),
    ("choose", {}),
    ("choose", {"model": "llama-3.1-70b", "device": "a10"}),
    ("choose", {"model": "bert-base", "device": "t4", "rows": "500", "tasks": "5", "latency": "0"}),
    ("choose", {"prompting": "yes"}),
    ("fact_check", {"claim": "prompt-minimal-memory"}),
    ("fact_check", {"claim": "leaf-few-shot"}),
    ("fact_check", {"claim": "ptuning-nlu"}),
    ("fact_check", {"claim": "lora-near-baseline"}),
    ("fact_check", {"claim": "nf4-better"}),
    ("fact_check", {"claim": "lora-share", "model": "qwen2.5-0.5b"}),
]  # fmt: skip


def text_of(element: Any) -> str:
    """What a reader sees of an element; all of it for a table and a chart."""
    if element.type in ("markdown", "caption", "text"):
        return str(element.value)
    if element.type == "metric":
        return f"{element.value} {element.delta}"
    if element.type in ("html", "plotly_chart"):
        return str(element.proto)
    return ""


def blocks(block: Any) -> Iterator[list[str]]:
    """The texts of each block, in reading order."""
    inside = list(block.children.values())
    yield [text for child in inside if not hasattr(child, "children") and (text := text_of(child))]
    for child in inside:
        if hasattr(child, "children"):
            yield from blocks(child)


@pytest.mark.parametrize(
    ("page", "address"),
    PAGES,
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
def test_a_figure_stands_beside_the_badge_of_its_source(page: str, address: dict[str, str]) -> None:
    app = opened(page, **address)
    seen, without = 0, []
    for texts in blocks(app.main):
        for place, text in enumerate(texts):
            if not re.search(r"\d", NAMES.sub("", text)) or any(words in text for words in YOURS):
                continue
            if text.startswith(QUOTED) or LISTED.match(text):
                continue
            seen += 1
            before = (
                1 if BADGE.search(texts[place - 1]) else 2
            )  # a line may stand between a heading and its chart
            if not any(BADGE.search(near) for near in texts[max(0, place - before) : place + 2]):
                without.append(text[:300])
    assert not without
    assert seen
