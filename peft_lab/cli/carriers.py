"""Who carries out the runs of ``sweep`` and ``compare``: this machine's queue, or a Ray cluster."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from peft_lab.cli import output
from peft_lab.errors import BadInput
from peft_lab.sweeping.on_ray import OnRay


class Kind(StrEnum):
    """Who carries the runs out."""

    LOCAL = "local"
    RAY = "ray"


Executor = Annotated[
    # help is rich's markup, in which brackets mean something
    Kind, typer.Option(help=r"This machine's queue, or a Ray cluster (pip install 'peft-lab\[cluster]').")
]  # fmt: skip
Address = Annotated[
    str | None,
    typer.Option(
        help="Of the Ray cluster; without it RAY_ADDRESS, what 'ray start' began here, or this machine alone."
    ),
]
_MOST = 4096  # of one training
Cpus = Annotated[int, typer.Option(help="With Ray: processors for a training.", min=1, max=_MOST)]
Gpus = Annotated[
    float, typer.Option(help="With Ray: GPUs for a training, or a share of one.", min=0, max=_MOST)
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="With Ray: by which fsspec URL runs go to the nodes and come back, such as s3://bucket/lab; without it "
        "all nodes see the lab folder under the same path.",
    ),
]


def chosen(
    executor: Kind, address: str | None, cpus: int, gpus: float, store: str | None = None
) -> OnRay | None:
    """The cluster that is asked for; ``None`` for this machine's queue.

    Raises:
        BadInput: there is no such cluster, or a setting of one without it.
    """
    check(executor, address, cpus, gpus, store)
    return OnRay(address, cpus, gpus, store, output.note) if executor is Kind.RAY else None


def check(executor: Kind, address: str | None, cpus: int, gpus: float, store: str | None) -> None:
    """Refuse settings of a cluster without one, before anything is looked at or kept. Raises BadInput."""
    if executor is Kind.RAY:
        return
    given = {"address": address is not None, "cpus": cpus != 1, "gpus": gpus != 0, "store": store is not None}
    for name, is_given in given.items():
        if is_given:
            raise BadInput(f"--{name} says something about Ray's cluster: add --executor ray.", name)
