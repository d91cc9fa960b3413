"""Intruder dimensions on matrices whose singular vectors are known."""

from __future__ import annotations

import pytest

from peft_lab.methods.recording.recorder import STRONGEST, compare_singular_vectors

SIZE, VALUES = 24, [50.0, 40.0, 30.0, 20.0, 10.0, 5.0]


@pytest.fixture
def matrix() -> tuple[object, object, object]:
    """U and V with orthonormal columns, and W = U diag(VALUES) V^T, of rank 6."""
    import torch

    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(SIZE, SIZE)).Q for _ in range(2))
    values = torch.tensor(VALUES)
    return left, right, left[:, : len(VALUES)] @ torch.diag(values) @ right[:, : len(VALUES)].T


def test_without_a_change_every_vector_is_its_own_partner(matrix) -> None:  # type: ignore[no-untyped-def]
    import torch

    _, _, weight = matrix
    seen = compare_singular_vectors(weight, torch.zeros_like(weight), strongest=len(VALUES))
    assert seen.found == ()
    assert seen.nearest == pytest.approx([1.0] * len(VALUES), abs=1e-4)
    assert seen.tuned == pytest.approx(VALUES, abs=1e-3) and seen.pretrained == pytest.approx(
        VALUES, abs=1e-3
    )
    assert [row[number] for number, row in enumerate(seen.cosines)] == pytest.approx([1.0] * 6, abs=1e-4)


def test_what_only_grows_is_no_intruder(matrix) -> None:  # type: ignore[no-untyped-def]
    left, right, weight = matrix
    seen = compare_singular_vectors(weight, 25.0 * left[:, 2:3] @ right[:, 2:3].T, strongest=len(VALUES))
    assert seen.found == ()
    assert seen.tuned[0] == pytest.approx(55.0, abs=1e-3)
    assert seen.cosines[0][2] == pytest.approx(1.0, abs=1e-4), (
        "the third pretrained vector is the strongest now"
    )


def test_a_new_direction_on_top_is_an_intruder() -> None:
    """A diagonal W with distinct values, and a strong change along the sum of all axes: near none of them."""
    import torch

    weight = torch.diag(torch.linspace(2.0, 1.0, SIZE))
    new = torch.full((SIZE, 1), SIZE**-0.5)
    seen = compare_singular_vectors(weight, 60.0 * new @ new.T)
    assert len(seen.nearest) == STRONGEST
    assert 1 in seen.found and seen.nearest[0] == pytest.approx(SIZE**-0.5, abs=0.02)


def test_a_thin_matrix_has_as_many_as_its_smaller_side() -> None:
    import torch

    torch.manual_seed(1)
    seen = compare_singular_vectors(torch.randn(3, 8), torch.zeros(3, 8))
    assert len(seen.nearest) == len(seen.cosines) == len(seen.tuned) == 3
