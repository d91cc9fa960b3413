"""Run a study as Ray tasks on every node of a cluster. All nodes share the lab folder under the same path.

Ray places the tasks, waits for processors or GPUs, and restarts a task elsewhere if its node is lost. The state
of a run is in the run store alone, where the pages and the next command find it.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.core.errors import BadInput, RunError, in_short
from peft_lab.core.machine import describe_machine
from peft_lab.runs import admission, checkpoints, owners, waiting
from peft_lab.runs import store as runs
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.runs.view import Status
from peft_lab.studies.carrying import Executor

# ----------------------------------------
# The task on a cluster's node: one run, in a process that trains nothing else.


def carry_on_node(folder: str, home: str, turn: float, threads: int) -> str:
    """Train a run whose folder the node sees; return its status. Raises RunError if the node does not see it."""
    from peft_lab.runs import child

    if not Path(folder).is_dir():
        raise RunError(
            f"This node cannot see {folder}. Share the lab folder under the same path on all nodes."
        )
    return child.carry_elsewhere(folder, home, turn, threads)


CARRIER = "ray"
PATIENCE = 10.0  # seconds to wait for an answer from a cluster's address
START_PATIENCE = 120.0  # seconds; a node starts Python for its first task
RETRIES = 3  # times that Ray restarts a task whose node or process was lost


class OnRay(Executor):
    """Hands runs to Ray, as many at a time as the cluster has room for."""

    def __init__(self, address: str | None = None, cpus: int = 1, gpus: float = 0.0) -> None:
        """Join a cluster, or start one on this machine.

        Args:
            address: of the head node, such as ``10.0.0.1:6379``; ``None``: that in RAY_ADDRESS, else that of
                ``ray start`` on this machine, else a new cluster on this machine, which ends with this process.
            cpus, gpus: needed by one training; a GPU can be shared (0.5).

        Raises:
            BadInput: Ray is not installed, there is no cluster at that address, or no node is large enough.
        """
        if cpus < 1:
            raise BadInput(f"A run needs at least one processor, not {cpus}.", "cpus")
        if gpus < 0:
            raise BadInput(f"A run cannot use {gpus:g} GPUs. Give 0 or more.", "gpus")
        self._ray = _ray()
        _require_answer(address)
        self._cpus, self._gpus = cpus, gpus
        self._tasks: dict[Any, Run] = {}
        self._waiting: list[Run] = []  # for a place in the cluster
        self._heart = owners.Heart(lambda: [run.folder for run in list(self._tasks.values())])
        try:
            self._ray.init(
                address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            at = f"at {address}" if address else "at the address in RAY_ADDRESS"
            raise BadInput(f"No Ray cluster answers {at}: {in_short(error, 200)}", "address") from error
        nodes = self._nodes()
        if not any(self._fit(node) for node in nodes):
            self.close()
            has = " or ".join(
                dict.fromkeys(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
            )
            raise BadInput(
                f"No node of this Ray cluster has {cpus} processors"
                + (f" and {gpus:g} GPUs" if gpus else "")
                + f" (a node's processors and GPUs: {has or 'there is none'}): ask for fewer with --cpus and --gpus.",
                "cpus",
            )
        # A process trains one run, so that the next starts with clean memory.
        self._task = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=RETRIES)(
            carry_on_node
        )

    @property
    def slots(self) -> int:
        """Return how many trainings the nodes have room for now; nodes may come and go. At least 1."""
        return max(1, sum(self._fit(node) for node in self._nodes()))

    def start(self, spec: RunSpec) -> str:
        """Create a run, hand it to Ray and return its id. Raises PeftLabError if there is too little disk, or a tracker
        is not installed."""
        admission.require(spec, waits=True)
        start.require_trackers()
        return self._hand_over(runs.create(spec, owners.myself(), CARRIER)).id

    def again(self, run: Run) -> None:
        """Hand a run that ended too early to Ray again. Raises PeftLabError if the run cannot continue, or there is too
        little disk."""
        checkpoints.require_to_go_on(run, anew=True)
        admission.require(run.spec, waits=True)
        checkpoints.reopen(run, owners.myself(), anew=True, carrier=CARRIER)
        self._hand_over(run)

    def end(self, run: Run) -> None:
        run.ask_to_stop()

    def look(self) -> None:
        """End the runs whose tasks Ray has given up; announce runs that have begun to their trackers, from here."""
        for run in [each for each in self._waiting if each.status() is not Status.QUEUED]:
            self._waiting.remove(run)
            start.begin(run)
        if not self._tasks:
            return
        ended, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        for task in ended:
            run = self._tasks[task]
            if waiting.is_held(run):
                continue  # a process that Ray takes for lost still writes the run: retried later
            del self._tasks[task]
            if run in self._tasks.values():
                continue  # it was begun again before this task returned; the newer task will end it
            why = "The run's Ray task ended before the run did."
            try:
                self._ray.get(task)
            except Exception as error:  # noqa: BLE001  whatever failed on that node ends this one run
                why = f"Ray stopped trying: {in_short(error)}"
            if run.folder.exists() and not run.status().final:
                run.log.end("lost", message=why)

    def machines(self) -> list[dict[str, Any]]:
        """Return the descriptions of the different nodes that can train, as
        :func:`peft_lab.core.machine.describe_machine` gives them. Raises BadInput if one of them does not answer, or
        has no PEFT Lab."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asking = self._ray.remote(num_cpus=0, max_retries=RETRIES)(describe_machine)
        able = [
            node["NodeID"] for node in self._ray.nodes() if node["Alive"] and self._fit(node["Resources"])
        ]
        asked = [
            asking.options(scheduling_strategy=NodeAffinitySchedulingStrategy(each, soft=False)).remote()
            for each in able
        ]
        try:
            answers: list[dict[str, Any]] = self._ray.get(asked, timeout=START_PATIENCE)
        except Exception as error:
            raise BadInput(
                f"A node of this Ray cluster did not describe itself: {in_short(error)}"
            ) from error
        return [each for at, each in enumerate(answers) if each not in answers[:at]]

    def close(self) -> None:
        with suppress(Exception):
            self._ray.shutdown()

    def _hand_over(self, run: Run) -> Run:
        owners.touch(run.folder)
        task = self._task.remote(str(run.folder), str(disk.home()), waiting.turn_number(run), self._cpus)
        self._tasks[task] = run
        self._waiting.append(run)
        self._heart.start()
        return run

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _fit(self, node: dict[str, float]) -> int:
        """Return how many trainings a node has room for."""
        many = int(node.get("CPU", 0) // self._cpus)
        return min(many, int(node.get("GPU", 0) / self._gpus + 1e-9)) if self._gpus else many


def _require_answer(address: str | None) -> None:
    """Check that something listens at the address: for a dead one Ray itself would try for minutes. Raises BadInput if
    nothing answers at ``host:port``; other forms are left to Ray."""
    host, _, port = (address or "").rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise BadInput(f"No Ray cluster answers at {address}: {error}.", "address") from error


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise BadInput(
            "Ray is not installed. Install it: pip install 'peft-lab[cluster]' (in a clone, '.[cluster]').",
            "executor",
        ) from None
    return ray
