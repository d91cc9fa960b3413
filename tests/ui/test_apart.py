"""Two runs that began in one second are two options: each is shown when it is chosen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from peft_lab.runs.store import Run
from peft_lab.ui.components.knobs import apart
from tests.ui.test_inside_lora import made_up
from tests.ui.test_pages import opened, told

pytestmark = [pytest.mark.weights, pytest.mark.filterwarnings("ignore")]


def test_titles_that_differ_stay() -> None:
    assert apart({"a-1234": "one", "b-5678": "two"}) == {"a-1234": "one", "b-5678": "two"}


def test_equal_titles_end_with_their_ids() -> None:
    found = apart({"a-1234": "one", "b-5678": "one", "c-9999": "two"})
    assert found == {"a-1234": "one · 1234", "b-5678": "one · 5678", "c-9999": "two"}


@pytest.fixture
def twins() -> Iterator[dict[int, Run]]:
    """Of one second, told apart by their ranks."""
    made = {}
    for rank, end in ((3, "aaaa"), (2, "bbbb")):
        run = made_up("lora", {"r": rank})
        folder = run.folder.rename(run.folder.with_name(f"20260101-101010-lora-minilm-sentiment-{end}"))
        made[rank] = Run(folder.name, folder)
    yield made
    for run in made.values():
        shutil.rmtree(run.folder)


@pytest.mark.parametrize("rank", [2, 3])
def test_each_run_of_one_second_is_opened(twins: dict[int, Run], rank: int) -> None:
    app = opened("lora", tab="inside", run=twins[rank].id)
    assert not app.exception
    app.run()  # what the browser sends back is the option's words
    assert f"**Its {rank} singular values**" in told(app)
    chosen = next(box for box in app.selectbox if box.label == "Run")
    assert chosen.value == twins[rank].id
    assert len(set(chosen.options)) == len(chosen.options)
