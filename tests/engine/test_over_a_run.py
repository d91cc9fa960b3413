"""What the allocator reserves over a run of rows of unequal length."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import SimulationError
from peft_lab.engine import account, over_a_run, running, simulate
from peft_lab.engine.account import CachingAllocator, ExpandableAllocator
from peft_lab.engine.over_a_run import ORDERS, STEPS, Steps, assumed, sampled, steps_at, thinned
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.tracker import Mark, Storage, Trace
from tests.engine import small
from tests.engine.test_allocator import MIB, SIZES

UNEQUAL = tuple(range(20, 120, 3))


class Plain:
    """An expandable segment for each pool told the long way: pieces ``[size, is live]`` from its start to its end."""

    def __init__(self) -> None:
        self.pools: dict[bool, list[list[int]]] = {True: [], False: []}

    def reserved(self) -> int:
        return sum(size for pieces in self.pools.values() for size, _ in pieces)

    def malloc(self, nbytes: int) -> list[int]:
        size = (nbytes + 511) // 512 * 512
        pieces, page = self.pools[size <= MIB], 2 * MIB if size <= MIB else 20 * MIB
        fits = sorted((piece[0], at) for at, piece in enumerate(pieces) if not piece[1] and piece[0] >= size)
        if not fits:
            if not pieces or pieces[-1][1]:
                pieces.append([0, 0])
            pieces[-1][0] += -(-(size - pieces[-1][0]) // page) * page
            fits = [(0, len(pieces) - 1)]
        at = fits[1][1] if len(fits) > 1 and fits[0][1] == len(pieces) - 1 else fits[0][1]
        rest = pieces[at][0] - size
        pieces[at : at + 1] = [[size, 1], *([[rest, 0]] if rest else [])]
        return pieces[at]

    def free(self, piece: list[int]) -> None:
        piece[1] = 0
        for pieces in self.pools.values():
            for at in range(len(pieces) - 1, 0, -1):
                if not pieces[at][1] and not pieces[at - 1][1]:
                    kept = next((one for one in (pieces[at - 1], pieces[at]) if one is not piece), piece)
                    kept[0] = pieces[at - 1][0] + pieces[at][0]
                    pieces[at - 1 : at + 1] = [kept]


@given(st.lists(st.tuples(SIZES, st.integers(0, 6)), max_size=40))
def test_an_expandable_segment_grows_at_its_end(requests: list[tuple[int, int]]) -> None:
    fast, plain, live = ExpandableAllocator(), Plain(), []
    for nbytes, age in requests:
        live.append((fast.malloc(nbytes), plain.malloc(nbytes)))
        assert live[-1][0].size == live[-1][1][0]
        if age and len(live) > age:
            block, piece = live.pop(-age)
            fast.free(block)
            plain.free(piece)
        assert fast.reserved == plain.reserved()
    with pytest.raises(ValueError, match="not emptied"):
        fast.empty_cache()


@pytest.mark.parametrize(
    ("kind", "method", "options"),
    [
        ("llama", "LORA", {}),
        pytest.param("llama", None, {"checkpointing": True}, marks=pytest.mark.slow),
        pytest.param("gpt2", "PROMPT_TUNING", {}, marks=pytest.mark.slow),
        pytest.param("t5", "LORA", {}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_replayed_run_is_as_a_traced_one(kind: str, method: str | None, options: dict[str, bool]) -> None:
    """Steps of lengths that were not traced, against a trace of just these steps, from first to last."""
    numbers = {"num_virtual_tokens": 6} if method == "PROMPT_TUNING" else {}
    chosen = None if method is None else small.adapter(method, kind, **numbers)
    plan, setting = small.blueprint(kind, 7, chosen, **options), StepSetting(96, 160)
    lengths, run = [15, 87, 159, 123], [41, 153, 65, 105, 49]
    trace = running.run(plan, setting, steps_at([87, *lengths]))[0]
    steps, allocator = Steps(trace, lengths), CachingAllocator()
    blocks = account.replay(trace, allocator, setting.capability, stop=steps.start)
    left = [blocks.get(index) for index in steps.first]
    for length in run:
        left = steps.play(length, allocator, left)
    traced = account.reserve(running.run(plan, setting, steps_at([87, *run]))[0], setting.capability)
    assert allocator.peak_reserved == traced


def test_rows_are_sampled_with_the_longest_among_them() -> None:
    setting = StepSetting(3, 100, lengths=UNEQUAL)
    first = sampled(setting, 0)
    assert len(first) == STEPS and max(first) == 100 and min(first) >= UNEQUAL[0], "longer rows are cut"
    assert first == sampled(setting, 0) != sampled(setting, 1)
    assert {length % 64 for length in sampled(setting, 0, 64)} == {0}
    assert sum(first) > sum(sampled(replace(setting, batch=1), 0)), "a batch is as long as its longest row"


@given(st.integers(2, 400), st.floats(1.05, 8), st.integers(2, 10**6))
def test_assumed_lengths_have_the_mean_and_the_longest(mean: int, times: float, rows: int) -> None:
    longest = round(mean * times)
    lengths = assumed(mean, longest, rows)
    assert lengths == tuple(sorted(lengths)) and lengths[-1] == longest and lengths[0] >= 1
    assert len(thinned(lengths)) == len(lengths) <= 1000
    if rows > 5_000 and times < 4 and mean > 50:
        assert sum(lengths) / len(lengths) == pytest.approx(mean, rel=0.03)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_runs_reserve_no_less_than_their_longest_step() -> None:
    asked = StepRequest("gpt2", "lora", {}, StepSetting(64, 120))
    step = simulate.simulate(asked, works=False)
    found = simulate.simulate(asked.at(lengths=UNEQUAL), works=False)
    assert (found.peak_bytes, found.reserved_bytes, step.run) == (step.peak_bytes, step.reserved_bytes, None)
    run = found.run
    assert run is not None and (run.orders, run.longest, run.rows) == (ORDERS, UNEQUAL[-1], len(UNEQUAL))
    usual = run.reserved
    assert usual.low <= usual.value <= usual.high
    assert set(run.others) == {"expandable_segments", "empty_cache", "pad_to_multiple_of_64", "packing"}
    assert run.others["expandable_segments"].high < usual.low > run.others["empty_cache"].high
    assert simulate.reserved_over_run(asked.at(lengths=UNEQUAL), ORDERS) == usual
    equal = simulate.reserved_over_run(asked.at(lengths=(120, 120)), 2)
    assert equal.low == equal.high < usual.low
    first = simulate.reserved_over_run(asked.at(lengths=UNEQUAL), 1).high
    for capacity, holds in ((int(0.9 * first), True), (equal.high // 2, False)):
        tight = simulate.reserved_over_run(asked.at(lengths=UNEQUAL, capacity=capacity), 1)
        assert (tight.high <= capacity) == holds, "cached segments are given back where the device is full"


def test_steps_that_differ_in_more_than_size_are_refused() -> None:
    """One more tensor in the last step; a step that ends what the first one made. Sizes that leap are as traced."""

    def trace(*steps: list[int]) -> Trace:
        made = Trace()
        for sizes in steps:
            made.marks.append(Mark(len(made.events), "forward", None))
            for size in sizes:
                made.storages.append(Storage(size))
                made.events += [len(made.storages) - 1, ~(len(made.storages) - 1)]
            made.marks.append(Mark(len(made.events), "optimizer", None))
            made.storages.append(Storage(8))  # the mark needs an event
            made.events += [len(made.storages) - 1, ~(len(made.storages) - 1)]
        return made

    lengths = [10, 20, 40, 30]
    good = [[length * 100] for length in (20, *lengths)]
    assert Steps(trace(*good), lengths).sizes(25)[0] == 2500
    with pytest.raises(SimulationError, match="different operations"):
        Steps(trace(*good[:-1], [3000, 1]), lengths)
    leaping = Steps(trace(*good[:-1], [9000]), lengths)
    assert [leaping.sizes(length)[0] for length in (5, 21, 30, 31, 99)] == [1000, 9000, 9000, 4000, 4000]
    earlier = trace(*good)
    earlier.events[-1] = ~0
    with pytest.raises(SimulationError, match="an earlier step"):
        Steps(earlier, lengths)
    for setting in (StepSetting(1, 3, lengths=(1, 3)), StepSetting(1, 9, lengths=(1, 9), device="cpu")):
        with pytest.raises(SimulationError, match="cannot be simulated"):
            over_a_run.simulate(lambda *_: Trace(), setting)
