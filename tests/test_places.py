"""No section, table or figure of a paper is named that nobody looked up: ``places_seen.txt`` lists those that were."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_lab.core import references

ROOT = Path(__file__).parents[1]
PAPERS = {name: text for name, text in vars(references).items() if name.isupper() and "arXiv:" in str(text)}
_KIND = r"(?:sections?|tables?|figures?|appendix|appendices|algorithm|equation|eqs?\.)"
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)*|[A-H](?:\.[0-9]+)*)\b"
_PLACE = re.compile(rf"({_KIND}) ({_NUMBER}(?:(?:, | and | to ){_NUMBER})*)")
_NAMED = re.compile(
    r"(?:src\.|- |: |; |\{)([A-Z][A-Z0-9_]+)\b|arXiv[: ]?(\d{4}\.\d{5})|\"(\d{4}\.\d{5})\"|\"paper\": \"([A-Z0-9_]+)\""
)
_ONE = {
    "sections": "section",
    "tables": "table",
    "figures": "figure",
    "appendices": "appendix",
    "eqs.": "eq.",
}


def seen() -> dict[str, set[str]]:
    """Paper -> places that were looked up."""
    lines = (Path(__file__).parent / "places_seen.txt").read_text("utf-8").splitlines()
    split = (line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    return {paper.split()[0]: set(places.split(", ")) for paper, places in split}


def places(text: str) -> Iterator[tuple[str, str]]:
    """Every place that a line gives after it named a paper, and that paper by its name in references.yaml or number."""
    by_number = {
        number.group(1): name
        for name, paper in PAPERS.items()
        if (number := re.search(r"arXiv:(\d{4}\.\d{5})", str(paper)))
    }
    for line in text.splitlines():
        named = [(found.end(), next(filter(None, found.groups()))) for found in _NAMED.finditer(line)]
        named = [(end, name) for end, name in named if name in PAPERS or not name.isupper()]
        for place in _PLACE.finditer(line):
            before = [paper for end, paper in named if end <= place.start()]
            kind = _ONE.get(place[1], place[1])
            for number in re.findall(_NUMBER, place[2]) if before else ():
                yield by_number.get(before[-1], before[-1]), f"{kind} {number}"


def unseen(text: str) -> list[tuple[str, str]]:
    known = seen()
    return [(paper, place) for paper, place in places(text) if place not in known.get(paper, ())]


@pytest.mark.parametrize("folder", ["peft_lab", "pages"])
def test_every_place_was_looked_up(folder: str) -> None:
    files = [file for name in ("*.py", "*.yaml", "literature.jsonl") for file in (ROOT / folder).rglob(name)]
    found = {str(file.relative_to(ROOT)): unseen(file.read_text("utf-8")) for file in files}
    assert not {file: places for file, places in found.items() if places}


def test_what_nobody_looked_up_is_found() -> None:
    assert unseen('f"{src.LORA}, section 9.9 and table 1"') == [("LORA", "section 9.9")]
    for text in ("    - LORA, section 9.9", "source: LORA, section 9.9", "how: as {LORA}, section 9.9"):
        assert unseen(text) == [("LORA", "section 9.9")]
    assert unseen("Hu et al. 2021, arXiv 2106.09685, sections 4.1 and 8.2") == [("LORA", "section 8.2")]


def test_papers_that_are_listed_are_cited() -> None:
    assert set(seen()) <= set(PAPERS)
