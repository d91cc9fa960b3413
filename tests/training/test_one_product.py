"""What the output head reads is laid out before it is multiplied, and only while an answer is written."""

from __future__ import annotations

from typing import Any


def test_the_head_reads_what_lies_together_and_is_let_go() -> None:
    import torch

    from peft_lab.training import evaluation

    seen: list[bool] = []

    class Head(torch.nn.Linear):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            seen.append(given.is_contiguous())
            return super().forward(given)

    class Model:
        head = Head(4, 8)

        def get_output_embeddings(self) -> Any:
            return self.head

    model, last = Model(), torch.ones(3, 5, 4)[:, -1:, :]
    expected = model.head(last)
    with evaluation.one_product(model):
        assert torch.equal(model.head(last), expected)
    model.head(last)
    assert seen == [False, True, False]
