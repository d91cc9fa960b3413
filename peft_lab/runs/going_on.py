"""A run that ended too early goes on: whether it can, and its folder opened again."""

from __future__ import annotations

from peft_lab.errors import BadInput, RunError
from peft_lab.runs import adopted, checkpoints, early, events, hold, kept, owners, store
from peft_lab.runs.owners import Owner
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status


def step_of(run: Run) -> int | None:
    """The step after which a run can go on; ``None`` where it cannot: it trains, it is done, or no state was kept."""
    try:
        status = run.status()
    except RunError:
        return None
    if not status.final or status is Status.DONE:
        return None
    found = checkpoints.latest(run.folder)
    return None if found is None else found.step


def words_of_a_stop(run: Run) -> str:
    """What is left of a run that was ended in the middle of a step, and why it was where it knows."""
    found = checkpoints.latest(run.folder)
    said = (
        "Stopped in the middle of a step: nothing was saved."
        if found is None
        else f"Stopped in the middle of a step. It can go on from step {found.step}, which was saved."
    )
    return f"{said} {run.why_stopped()}".strip()


def require(run: Run, anew: bool = False) -> None:
    """Let a run pass that can go on; with ``anew`` also one that begins once more.

    Raises:
        BadInput: it is done, it has not ended, or no state of it was kept.
    """
    status = run.status()
    if status is Status.DONE:
        raise BadInput(f"'{run.id}' is done: there is nothing left to go on with.", "run")
    if not status.final:
        raise BadInput(f"'{run.id}' has not ended: it is {status}.", "run")
    if adopted.is_adopted(run):  # a state in a folder from elsewhere is not ours, and nothing of it is opened
        raise BadInput(f"'{run.id}' was started outside the lab: its script goes on with it.", "run")
    if checkpoints.latest(run.folder) is None and not anew:
        raise BadInput(
            f"'{run.id}' kept no state to go on from (one is kept every {checkpoints.EVERY} steps). Start it anew.",
            "run",
        )


def begun(run: Run) -> bool:
    """Whether a process has begun with the run's latest turn. Raises RunError when its events cannot be read."""
    kinds = [event["type"] for event in run.events()]
    return "worker" in kinds and ("queued" not in kinds or _last(kinds, "worker") > _last(kinds, "queued"))


def asked(run: Run) -> float:
    """For which turn an engine was asked to carry the run out: it asks for that again, however often the run was
    :func:`taken_over` since. Raises RunError when its events cannot be read."""
    queued = hold.queued(run)
    return float(queued.get("asked") or queued.get("time", 0.0))


def _last(kinds: list[str], kind: str) -> int:
    return len(kinds) - 1 - kinds[::-1].index(kind)


def taken_over(run: Run, why: str) -> float:
    """Put a run back to its latest state whose process was lost while its owner lives; its new turn (:mod:`hold`).
    What its owner decided about it stays: that it stop, or end early.

    Raises:
        BadInput: it has ended meanwhile. RunError: the process that trained it is still there. OSError.
    """
    seen = run.events()
    queued = next(event for event in reversed(seen) if event["type"] == "queued")
    owner = owners.read(queued.get("owner"))
    if owner is None:
        raise RunError(f"'{run.id}' names no owner for whom it could go on.")
    with hold.reopening(run):
        if run.status().final:
            raise BadInput(f"'{run.id}' has ended: {run.status()}.", "run")
        run.log.emit("lost", message=why)
        _put_back(run, owner, str(queued.get("carrier") or ""), asked=asked(run))
    return hold.turn(run)


def reopen(run: Run, owner: Owner, anew: bool = False, carrier: str = "") -> None:
    """Put its events back to those of its latest state, and queue it for ``owner``. In one step: who reads sees it
    ended or queued.

    Args:
        anew: begin from the start where no state was kept.
        carrier: which engine carries it out; as in :func:`peft_lab.runs.store.create`.

    Raises:
        BadInput: as :func:`require`. RunError: the process that trained it is still there. OSError.
    """
    require(run, anew)
    with hold.reopening(run):
        require(run, anew)  # what was about to end may have ended otherwise meanwhile
        (run.folder / store.STOP).unlink(missing_ok=True)
        early.forget_ending(run.folder)
        _put_back(run, owner, carrier)


def _put_back(run: Run, owner: Owner, carrier: str, **more: float) -> None:
    found = checkpoints.latest(run.folder)
    offset, step = (found.offset, found.step) if found else (0, 0)
    # The record vouches for files that are about to change.
    (run.folder / kept.RECORD).unlink(missing_ok=True)
    queued = {"type": "queued", "owner": owner.to_dict(), "continued": step, **store.carried(carrier), **more}
    # Of a run that was taken for lost and trained on, the ending stands before the state.
    endings = frozenset(str(status) for status in Status if status.final)
    events.cut(run.log.path, offset, queued, without=endings)
