"""The caching allocator's documented rules, one by one, and what must hold for any sequence of requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.memory.allocator import CachingAllocator, DeviceFull, round_size, segment_size

MIB = 2**20


@pytest.mark.parametrize(
    ("nbytes", "block"), [(1, 512), (512, 512), (513, 1024), (MIB, MIB), (MIB + 1, MIB + 512)]
)
def test_sizes_are_rounded_to_512(nbytes: int, block: int) -> None:
    assert round_size(nbytes) == block


@pytest.mark.parametrize(
    ("nbytes", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB),
    ],
)
def test_segments(nbytes: int, segment: int) -> None:
    assert segment_size(nbytes) == segment


def test_small_blocks_share_a_segment_and_large_ones_split_only_for_more_than_a_mebibyte() -> None:
    allocator = CachingAllocator()
    allocator.malloc(1000)
    allocator.malloc(1000)
    assert allocator.reserved == 2 * MIB
    assert allocator.allocated == 2048
    large = CachingAllocator()
    block = large.malloc(12 * MIB - 512)
    assert (large.reserved, block.size) == (12 * MIB, 12 * MIB)
    large.free(large.malloc(40 * MIB))
    assert large.malloc(30 * MIB).size == 30 * MIB
    assert large.malloc(9 * MIB).size == 10 * MIB  # the rest of 1 MiB is not worth splitting off
    assert large.reserved == 52 * MIB


def test_a_small_block_splits_off_even_the_last_512_bytes() -> None:
    """kMinBlockSize is the least that is split off, not what has to be exceeded."""
    allocator = CachingAllocator()
    allocator.malloc(MIB)
    assert allocator.malloc(MIB - 512).size == MIB - 512
    assert allocator.malloc(512).size == 512
    assert allocator.allocated == allocator.reserved == 2 * MIB


def test_best_fit_and_merging() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.malloc(size * MIB) for size in (64, 32, 48)]
    for block in blocks:
        allocator.free(block)
    assert allocator.malloc(40 * MIB).address == blocks[2].address
    first, second, third = (allocator.malloc(size * MIB) for size in (20, 20, 20))
    assert allocator.reserved == 144 * MIB
    allocator.free(first)
    allocator.free(third)
    allocator.free(second)
    allocator.malloc(60 * MIB)
    assert allocator.reserved == 144 * MIB


def test_empty_cache_keeps_segments_with_a_live_block() -> None:
    allocator = CachingAllocator()
    whole = allocator.malloc(30 * MIB)
    allocator.free(allocator.malloc(50 * MIB))
    part = allocator.malloc(20 * MIB)
    allocator.free(whole)
    allocator.empty_cache()
    assert allocator.reserved == 50 * MIB
    allocator.free(part)
    allocator.empty_cache()
    assert allocator.reserved == 0


def test_a_full_device_releases_its_cache_and_then_gives_up() -> None:
    allocator = CachingAllocator(capacity=100 * MIB)
    allocator.free(allocator.malloc(80 * MIB))
    allocator.malloc(90 * MIB)
    assert allocator.reserved == 90 * MIB
    with pytest.raises(DeviceFull):
        allocator.malloc(20 * MIB)


@given(st.lists(st.tuples(st.integers(1, 64 * MIB), st.integers(0, 5)), max_size=60))
def test_nothing_is_lost(requests: list[tuple[int, int]]) -> None:
    allocator = CachingAllocator()
    live = []
    for nbytes, age in requests:
        live.append(allocator.malloc(nbytes))
        if age and len(live) > age:
            allocator.free(live.pop(-age))
        assert sum(block.size for block in live) == allocator.allocated <= allocator.reserved
        assert all(block.size >= 512 and not block.free for block in live)
    for block in live:
        allocator.free(block)
    assert allocator.allocated == 0
    allocator.empty_cache()
    assert allocator.reserved == 0
    assert allocator.peak_reserved >= allocator.peak_allocated
