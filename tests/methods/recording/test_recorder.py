"""What recorders share: an earlier state is put back for a moment, and what a resuming run needs is saved."""

from __future__ import annotations

import pytest
import torch

from peft_lab.methods import get_method, recording
from peft_lab.methods.recording.recorder import copied, restored
from peft_lab.runs import checkpoints
from tests.methods import tiny


def test_an_earlier_state_is_left_again_whatever_happens() -> None:
    trained = {"a": torch.zeros(2), "b": torch.ones(2)}
    present = copied(trained)
    with pytest.raises(KeyError), restored(trained, {"a": torch.full((2,), 5.0)}):
        assert trained["a"].tolist() == [5.0, 5.0] and trained["b"].tolist() == [1.0, 1.0]
        raise KeyError
    assert all(torch.equal(trained[name], present[name]) for name in trained)


@pytest.mark.parametrize("slug", ["lora", "bitfit", "ia3", "adapters", "prompt", "full"])
def test_a_checkpoint_holds_the_snapshots_and_neither_model_nor_parts(slug: str) -> None:
    spec, shape = get_method(slug), tiny.shape_of("bert")
    values = spec.require(shape, {})
    model = tiny.apply(spec, "bert", values)
    recorder = recording.start(spec, model, shape, values)
    assert recorder.parts and sum(part.parameters for part in recorder.parts) > 0
    recorder.snapshot(0)
    saved = checkpoints._attributes(recorder)
    assert not {"model", "shape", "values", "parts"} & saved.keys()
    assert slug == "full" or any(isinstance(value, list) and len(value) == 1 for value in saved.values())
