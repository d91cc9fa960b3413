"""What a simulation says, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from peft_lab.memory.account import PARTS, Point
from peft_lab.memory.work import Work

#: The command line's names of the parts; the rest is ``other``.
OWN_NAMES = ("weights", "adapter", "gradients", "optimizer", "activations")


@dataclass(frozen=True)
class Simulation:
    """A training step's memory, found without weights.

    Attributes:
        peak_bytes: tensors alive at once on the device, at most.
        reserved_bytes: what PyTorch's CUDA allocator would hold for them at most, workspaces and gaps included; what
            ``nvidia-smi`` shows is this and the driver's own context. None for a device without that allocator.
        parts: ``peak_bytes`` by what it is for (:data:`PARTS`), all keys present.
        points: the last step, stretch by stretch.
        host_bytes: in main memory: optimizer states that are paged, and what waits there for the backward pass.
        unrolled: whether the layers were found alike and five of them stood for all.
        seconds: that it took, without imports.
        work: what each of the steps did, the last one last.
    """

    model: str
    method: str
    peak_bytes: int
    reserved_bytes: int | None
    parts: dict[str, int]
    points: tuple[Point, ...]
    host_bytes: int = 0
    unrolled: bool = False
    seconds: float = 0.0
    source: str = "simulated"
    work: tuple[Work, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The command line's JSON: five parts and ``other``, and the finer parts beside them."""
        coarse = {name: self.parts[name] for name in OWN_NAMES}
        coarse["other"] = self.peak_bytes - sum(coarse.values())
        return {
            "model": self.model,
            "method": self.method,
            "peak_bytes": self.peak_bytes,
            "reserved_bytes": self.reserved_bytes,
            "parts": coarse,
            "detail": {name: self.parts[name] for name in PARTS},
            "timeline": [
                {"phase": point.phase, "bytes": point.nbytes, "layer": point.layer, "parts": point.parts}
                for point in self.points
            ],
            "host_bytes": self.host_bytes,
            "source": self.source,
            "seconds": self.seconds,
        }


def largest(points: list[Point]) -> Point:
    """The fullest stretch."""
    return max(points, key=lambda point: point.nbytes)


def from_dict(data: dict[str, Any]) -> Simulation:
    """A simulation from :func:`dataclasses.asdict`'s form."""
    points = tuple(Point(**point) for point in data["points"])
    return Simulation(**{**data, "points": points})


def plain(simulation: Simulation) -> dict[str, Any]:
    """For sending between processes."""
    return asdict(simulation)
