"""Room on the disk: what a run is said to need is never less than what it writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peft_lab.core import disk as storage
from peft_lab.runs import admission, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status
from tests.runs.driving import QUICK
from tests.waits import SECONDS

pytestmark = pytest.mark.weights


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("method", ["full", "qlora", "ia3"])
def test_a_real_run_writes_no_more_than_it_was_said_to_need(method: str) -> None:
    identity = get_queue().submit(replace(QUICK, method=method, steps=9, probes=("A film.",), eval_rows=200))
    assert get_queue().wait(identity, SECONDS) is Status.DONE
    run = store.get(identity)
    written = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    assert written <= admission.needed_disk_bytes(run.spec)


def test_it_grows_with_what_is_stored() -> None:
    def needed(**changes: object) -> int:
        return admission.needed_disk_bytes(replace(QUICK, **changes).complete())  # type: ignore[arg-type]

    small, large = needed(values={"r": 4}), needed(values={"r": 64})
    # two factors on two maps of 384 by 384 in six layers, 60 more ranks, in float32
    assert large - small == 60 * 2 * 384 * 2 * 6 * 4
    assert needed(method="full") - small > 80e6
    assert needed(steps=10_000) - needed(steps=2) > 2e6


def test_a_reserve_is_left_and_an_unknown_disk_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = QUICK.complete()
    needed = admission.needed_disk_bytes(spec)
    for free, fits in (
        (needed + admission.DISK_RESERVE, True),
        (needed + admission.DISK_RESERVE - 1, False),
        (None, True),
    ):
        monkeypatch.setattr(storage, "free", lambda _, free=free: free)
        assert (admission.disk_refusal(spec) is None) == fits
