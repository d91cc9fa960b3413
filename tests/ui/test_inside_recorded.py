"""Inside shows the recorded training until there is a run of one's own, and says so."""

from __future__ import annotations

import pytest

from peft_lab.drawing.trajectory import format
from peft_lab.ui.method.inside import VIEWS, recorded
from tests.ui.test_pages import opened, told


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("slug", ["ia3"])
def test_without_a_run_the_recorded_one_is_shown(slug: str) -> None:
    app = opened(slug, tab="inside")
    assert not app.exception
    run = format.shipped(slug)
    assert run.recorded[:10] in told(app) and run.model.title in told(app)
    step = next(item for item in app.select_slider if item.label == "Training step")
    assert [int(option) for option in step.options] == run.steps and step.value == run.steps[-1]
    step.set_value(0).run()
    assert not app.exception


@pytest.mark.parametrize("slug", sorted(set(VIEWS) - {"qlora"}))
def test_every_recording_has_a_part_to_show(slug: str) -> None:
    run = format.shipped(slug)
    pictured = [part for part in run.parts if part.tensors]
    assert pictured
    for part in pictured:
        name = next(name for name in recorded.SEEN if name in part.tensors)
        tensor = part.tensor(name, len(run.steps) - 1)
        assert tensor is not None
        rows = recorded.cells(tensor)
        assert (len(rows), len(rows[0])) == tensor.shape
        largest = max(abs(value) for row in rows for value in row)
        assert largest == pytest.approx(tensor.scale, rel=0.01) and part.change[-1]
