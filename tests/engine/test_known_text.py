"""CPT's step on a text whose every token is learned: what is simulated is what a real one takes."""

from __future__ import annotations

import pytest
import torch

from peft_lab.engine import account, running
from peft_lab.engine.fake import known_text, true_entries
from peft_lab.engine.request import StepSetting
from tests.engine import real, small

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = [1, 2, 2, 2, 3, 3, 4, 4] * 2


def cpt() -> object:
    return small.adapter(
        "CPT", cpt_token_ids=list(range(1, 17)), cpt_mask=[1] * 16, cpt_tokens_type_mask=KINDS
    )


@pytest.mark.parametrize(("rows", "length", "layers"), [(2, 24, 2), (3, 40, 4)])
def test_simulated_is_what_a_real_step_takes(rows: int, length: int, layers: int) -> None:
    blueprint = small.blueprint("llama", layers, cpt(), dtype=torch.float32)
    trace, _, _ = running.run(blueprint, StepSetting(rows, length, device="cpu"))
    found = max(point.nbytes for point in account.timeline(trace))
    ids = torch.randint(20, 600, (rows, length), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "labels": ids.clone()}
    points = real.points(blueprint, batch, lambda model: None)
    assert found == pytest.approx(max(point.nbytes for point in points), rel=0.003)
    adapter = {point.parts.get("adapter", 0) for point in points}
    assert max(adapter) == 16 * 64 * 4, "the moved tokens, in 32 bits"


def test_a_few_layers_show_all_of_them() -> None:
    """Unrolled and run at full depth a model has the same peak."""
    deep = small.blueprint("llama", 7, cpt())
    trace, _, unrolled = running.run(deep, StepSetting(2, 16))
    whole, _ = running._run_at(deep, StepSetting(2, 16), running.two_steps, 7)
    assert unrolled
    peaks = [max(point.nbytes for point in account.timeline(each)) for each in (trace, whole)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.001)


def test_true_entries_are_those_of_real_masks() -> None:
    """Counted on the masks as PEFT makes them of a batch."""
    kinds = torch.tensor(KINDS)
    text = torch.full((20,), 4 + max(KINDS))
    whole = torch.cat([kinds, text])
    labels = ((whole > 0) & (whole % 4 == 0))[1:]
    known = true_entries(KINDS, 20)
    assert known[1, len(labels)] == known[2, len(labels)] == int(labels.sum())
    assert known[1, 16] == int((kinds % 4 != 0).sum()) and known[2, 20] == 20


def test_another_mask_is_not_guessed() -> None:
    values, mask = torch.empty(5, device="meta"), torch.empty(5, dtype=torch.bool, device="meta")
    with known_text(cpt(), 20), pytest.raises(NotImplementedError, match=r"a mask of \(5,\)"):
        values[mask]
