"""Names and numbers are looked for as a whole, in any order and whatever words stand around them."""

from __future__ import annotations

from tests.prose import says


def test_names_and_numbers_are_whole() -> None:
    assert says("Only 16 singular vectors has v_proj.", "v_proj", 16)
    assert says("1,024 positions", 1024) and says("takes 2.5 h.", "2.5 h")
    for text in ("16", "1.1", "1,000", "x1"):
        assert not says(text, 1)
