"""Every published count made again without weights: all 94 rows, none is left out."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.engine import published
from peft_lab.models.meta import shapes_only
from tests.engine.published import flux2

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", published.rows())
def test_language_rows(name: str) -> None:
    row, report = published.rows()[name], published.count(name)
    assert (report.trainable, report.total) == (row.trainable, row.total)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", published.rows(published.IMAGE))
def test_picture_rows(name: str) -> None:
    """On the transformer's bare shapes. SHiRA draws its positions at random and reads matrices for it; their number
    is known without them."""
    from peft import PeftConfig, get_peft_model

    row, model = published.rows(published.IMAGE)[name], flux2.build()
    if row.config is not None:
        config: Any = PeftConfig.from_peft_type(**row.config)
        if config.peft_type == "SHIRA":
            config.mask_fn = None
        with shapes_only():
            get_peft_model(model, config)
    parameters = list(model.parameters())
    assert sum(each.numel() for each in parameters if each.requires_grad) == row.trainable
    assert sum(each.numel() for each in parameters) == row.total
