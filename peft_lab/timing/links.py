"""What connects devices, and how much of it a collective operation reaches."""

from __future__ import annotations

from peft_lab.errors import UnknownName

#: Bytes a second that a device sends in one direction. NVLink: A100 600 GB/s and H100 900 GB/s both ways (their data
#: sheets); PCIe 4.0 with 16 lanes 32 GB/s, PCIe 5.0 64 GB/s, each one way (PCI-SIG).
LINKS = {"pcie": 32e9, "pcie5": 64e9, "nvlink": 300e9, "nvlink4": 450e9}
#: Share of it that all-gather and reduce-scatter reach: assumed, as is the next; the band of an estimate says how far
#: published figures lie from what follows.
REACHED = 0.7
#: Share of the step's computing behind which communication hides: prefetching gathers a layer while another computes.
OVERLAPPED = 0.8


def check(link: str) -> None:
    """Raises UnknownName for a link of which no speed is known."""
    if link not in LINKS:
        raise UnknownName("link", link, LINKS, "link")


def seconds(sent: float, link: str) -> float:
    """Of sending so many bytes. Raises UnknownName for other links."""
    check(link)
    return sent / (LINKS[link] * REACHED)


def exposed(taken: float, computing: float, waits: bool = False) -> float:
    """What of so many seconds of communication stays visible beside ``computing`` seconds: all of them where the next
    operation ``waits`` for what is sent, as under tensor parallelism."""
    if waits:
        return taken
    return max(taken - OVERLAPPED * computing, (1 - OVERLAPPED) * taken)
