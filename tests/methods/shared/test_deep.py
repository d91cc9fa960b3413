"""Deep prompts on encoders: a layer's attention by hand, with and without padding, and how they start."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.methods import get_method
from tests.methods import tiny

pytestmark = pytest.mark.filterwarnings("ignore")
SPEC = get_method("ptuning")
DEEP = {"version": "v2", "num_virtual_tokens": 4, "init_weights": "random"}


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_attention_looks_at_the_prompt_and_then_at_the_text(name: str, padded: bool) -> None:
    import torch

    model = tiny.apply(SPEC, name, DEEP)
    rows = tiny.batch(name)
    if not padded:
        rows["attention_mask"] = torch.ones_like(rows["attention_mask"])
    seen: dict[str, Any] = {}
    layer = model.get_submodule("encoder.layer.1.attention.self")
    layer.register_forward_hook(lambda _, args, out: seen.update(given=args[0], mixed=out[0]))
    with torch.no_grad():
        model(**rows)
        q, k, v = (
            getattr(layer, part)(seen["given"]).unflatten(-1, (4, 8)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        keys, values = (layer.deep_prompt[part].expand(3, -1, -1, -1) for part in ("key", "value"))
        scores = q @ torch.cat((keys, k), 2).transpose(-1, -2) / 8**0.5
        hidden = torch.cat((torch.zeros(3, 4), 1.0 - rows["attention_mask"]), 1).bool()
        scores = scores.masked_fill(hidden[:, None, None], -torch.inf)
        expected = (scores.softmax(-1) @ torch.cat((values, v), 2)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(seen["mixed"], expected, rtol=0, atol=1e-5)
    assert seen["mixed"].shape[1] == rows["input_ids"].shape[1], "the text keeps its length"


def test_zero_and_random_starts() -> None:
    import torch

    for start, spread in (("zero", 0.0), ("random", 1.0)):
        model = tiny.apply(SPEC, "bert", {**DEEP, "init_weights": start, "num_virtual_tokens": 200})
        trained = torch.cat([p.flatten() for n, p in model.named_parameters() if ".deep_prompt." in n])
        assert float(trained.std()) == pytest.approx(spread, abs=0.02)
