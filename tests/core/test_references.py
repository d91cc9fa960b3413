"""Papers are cited once in one spelling, with the year in which they came out on arXiv."""

from __future__ import annotations

import re
from pathlib import Path

from peft_lab.atlas import entries
from peft_lab.core import references

CITED = {
    number[1]: cite
    for cite in vars(references).values()
    if isinstance(cite, str) and (number := re.search(r" (?:20\d\d), .*arXiv:(\d{4}\.\d{4,5})$", cite))
}
#: Known by the year in which they were published, after that of their number.
LATER = {"2310.19698": "24", "2312.11420": "24"}
ON_ARXIV = [entry for entry in entries().values() if entry.paper.arxiv]


def year(cite: str) -> str:
    """Of a citation: the first that stands in it."""
    found = re.search(r"\b20(\d\d)\b", cite)
    assert found is not None, cite
    return found[1]


def test_a_paper_has_the_year_of_its_number_and_a_type_cites_as_the_questions_do() -> None:
    for number, cite in CITED.items():
        assert year(cite) == LATER.get(number, number[:2])
    for entry in ON_ARXIV:
        paper = entry.paper
        assert year(paper.cite) == LATER.get(paper.arxiv, paper.arxiv[:2])
        assert str(paper) == CITED.get(paper.arxiv, str(paper))
    assert len(CITED) > 80 and len(ON_ARXIV) > 50 and len(set(CITED.values())) == len(CITED)


def test_every_citation_stands_once_and_each_that_code_names_is_there() -> None:
    """A name that code takes from the module is one of the file: mypy cannot tell."""
    folder = Path(references.__file__).parent
    names = re.findall(r"^([A-Z0-9_]+): ", (folder / "references.yaml").read_text("utf-8"), re.MULTILINE)
    assert names == list(references.CITATIONS)
    assert all(isinstance(cite, str) for cite in references.CITATIONS.values())
    for path in folder.parent.rglob("*.py"):
        text = path.read_text("utf-8")
        if "from peft_lab.core import references as src" in text:
            for name in re.findall(r"\bsrc\.([A-Z][A-Z0-9_]*)", text):
                assert hasattr(references, name), f"{path.name}: {name}"
