"""The caching allocator's documented rules, one by one, and what must hold for any sequence of requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.engine.account import CachingAllocator, DeviceFull, round_size, segment_size

MIB = 2**20


def test_sizes_and_segments() -> None:
    blocks = {0: 512, 1: 512, 512: 512, 513: 1024, MIB: MIB, MIB + 1: MIB + 512}
    assert {nbytes: round_size(nbytes) for nbytes in blocks} == blocks
    segments = {512: 2, MIB: 2, MIB + 512: 20, 10 * MIB - 512: 20, 10 * MIB: 10, 11 * MIB: 12}
    assert {nbytes: segment_size(nbytes) // MIB for nbytes in segments} == segments


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
    with pytest.raises(DeviceFull) as full:
        allocator.malloc(20 * MIB)
    told = full.value
    assert (told.requested, told.reserved, told.capacity) == (20 * MIB, 90 * MIB, 100 * MIB)


def test_what_just_fits_is_served_and_releases_no_more_than_it_must() -> None:
    allocator = CachingAllocator(capacity=100 * MIB)
    allocator.free(allocator.malloc(40 * MIB))
    allocator.malloc(60 * MIB)
    assert allocator.reserved == 100 * MIB, "it fitted beside what is kept"
    tight = CachingAllocator(capacity=100 * MIB)
    tight.malloc(50 * MIB)
    tight.free(tight.malloc(30 * MIB))
    tight.malloc(50 * MIB)
    assert tight.reserved == 100 * MIB, "it fitted once what was kept was given back"


def test_split_rules_at_their_limits() -> None:
    """A small block splits for 512 bytes; a large one for more than 1 MiB, not for 1 MiB."""
    small = CachingAllocator()
    sizes = [small.malloc(size).size for size in (MIB, MIB - 512, 512)]
    assert (sizes, small.reserved) == ([MIB, MIB - 512, 512], 2 * MIB)
    for wanted, got in ((10 * MIB - 512, 10 * MIB - 512), (10 * MIB, 11 * MIB)):
        large = CachingAllocator()
        large.free(large.malloc(22 * MIB))
        large.malloc(11 * MIB)  # and 11 are left
        assert large.malloc(wanted).size == got
        assert large.reserved == 22 * MIB


class Plain:
    """The same rules told the long way: segments as lists of pieces ``[size, is live]``, searched from end to end."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.segments: list[tuple[bool, list[list[int]]]] = []

    def reserved(self) -> int:
        return sum(size for _, pieces in self.segments for size, _ in pieces)

    def malloc(self, nbytes: int) -> list[int]:
        size = (nbytes + 511) // 512 * 512
        small = size <= MIB
        fits = [
            (piece[0], order, place)
            for order, (kind, pieces) in enumerate(self.segments)
            for place, piece in enumerate(pieces)
            if kind == small and not piece[1] and piece[0] >= size
        ]
        if not fits:
            whole = (
                2 * MIB
                if small
                else 20 * MIB
                if size < 10 * MIB
                else (size + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
            )
            if self.reserved() + whole > self.capacity:
                self.segments = [each for each in self.segments if any(live for _, live in each[1])]
            if self.reserved() + whole > self.capacity:
                raise DeviceFull(whole, self.reserved(), self.capacity)
            self.segments.append((small, [[whole, 0]]))
            fits = [(whole, len(self.segments) - 1, 0)]
        _, order, place = min(fits)
        pieces = self.segments[order][1]
        rest = pieces[place][0] - size
        if rest and (small or rest > MIB):
            pieces[place : place + 1] = [[size, 0], [rest, 0]]
        pieces[place][1] = 1
        return pieces[place]

    def free(self, piece: list[int]) -> None:
        piece[1] = 0
        for _, pieces in self.segments:
            place = 1
            while place < len(pieces):
                if pieces[place][1] or pieces[place - 1][1]:
                    place += 1
                else:
                    pieces[place - 1][0] += pieces.pop(place)[0]


SIZES = st.one_of(
    st.integers(1, 3 * MIB),
    st.integers(1, 64 * MIB),
    st.sampled_from([512, MIB - 512, MIB, MIB + 512, 10 * MIB - 512, 10 * MIB, 20 * MIB]),
)


@given(
    st.lists(st.tuples(SIZES, st.integers(0, 6)), max_size=40), st.sampled_from([120 * MIB, 400 * MIB, 2**50])
)
def test_it_reserves_what_the_rules_say(requests: list[tuple[int, int]], capacity: int) -> None:
    """Every request and every free, on a device that is large, small, or without end."""
    fast, plain = CachingAllocator(capacity), Plain(capacity)
    live = []
    peak = most = 0
    for nbytes, age in requests:
        try:
            piece = plain.malloc(nbytes)
        except DeviceFull as told:
            with pytest.raises(DeviceFull) as full:
                fast.malloc(nbytes)
            assert str(full.value) == str(told)
            break
        live.append((fast.malloc(nbytes), piece))
        used = sum(piece[0] for _, piece in live)
        peak, most = max(peak, plain.reserved()), max(most, used)
        assert live[-1][0].size == piece[0]
        if age and len(live) > age:
            block, piece = live.pop(-age)
            fast.free(block)
            plain.free(piece)
        assert (fast.reserved, fast.peak_reserved, fast.peak_allocated) == (plain.reserved(), peak, most)
