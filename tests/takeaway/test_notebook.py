"""Notebooks are valid, hold the script's steps cell by cell, and make the numbers of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from peft_lab import takeaway
from peft_lab.methods import all_methods
from tests.takeaway.conftest import KINDS, Plain
from tests.takeaway.test_script import assert_same
from tests.waits import SECONDS


def cells(text: str) -> list[str]:
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    return [cell.source for cell in book.cells if cell.cell_type == "code"]


@pytest.mark.sampled(27)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slug", all_methods())
def test_every_methods_notebook_makes_the_runs_numbers(
    slug: str, kind: str, plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plain(kind, slug)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for source in cells(takeaway.notebook(run)):
        exec(compile(source, "cell", "exec"), names)
    assert_same(run, names)


def test_cells_are_the_sections_of_the_script(plain: Plain) -> None:
    run = plain("encoder", "lora")
    text, script = takeaway.notebook(run), takeaway.script(run)
    assert text == takeaway.notebook(run), "equal runs make equal files"
    own = [source for source in cells(text) if source not in script]
    assert len(own) == 1 and "DATA = " in own[0], "only the rows come another way"
    hidden = [
        cell for cell in json.loads(text)["cells"] if cell["metadata"].get("jupyter", {}).get("source_hidden")
    ]
    assert len(hidden) == 1


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.rest
def test_a_kernel_carries_a_notebook_out(plain: Plain, tmp_path: Path) -> None:
    from nbclient import NotebookClient

    run = plain("encoder", "ia3")
    book = nbformat.reads(takeaway.notebook(run), as_version=4)
    NotebookClient(
        book, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = "".join(output.get("text", "") for output in book.cells[-1].outputs)
    assert float(printed.strip().rpartition(" ")[2]) < 1e-3, printed
