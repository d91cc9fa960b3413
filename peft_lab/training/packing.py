"""Short rows laid end to end until a row is full, each with its own positions and its own attention.

    rows      [a a a] [b b] [c c c c]      room 6
    packed    [c c c c b b] [a a a]
    positions  0 1 2 3 0 1   0 1 2         attention stays within a run of positions

Rows go into the fullest row that still has room, the longest first (best-fit decreasing, as TRL's strategy "bfd").
Transformers reads off positions that start again where a row ends and masks all others
(``masking_utils.find_packed_sequence_indices``), as long as it is given no mask and keeps no cache. Written scripts
hold these functions as their source.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.training.batches import IGNORED, Encoded, wanted

if TYPE_CHECKING:
    import torch

#: What transformers calls the models whose packed rows were compared with the rows apart, loss and gradients
#: (tests/training/test_packing.py). BLOOM takes no positions and OPT makes its own, so their rows would see each other.
TYPES = (
    "cohere", "cohere2", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "mistral", "mixtral",
    "olmo", "olmo2", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "stablelm", "starcoder2",
)  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """Rows that share one."""

    rows: tuple[Encoded, ...]

    def __len__(self) -> int:
        return sum(len(row) for row in self.rows)


def no_cache(model: Any) -> None:
    """From now on ``model`` keeps no keys and values: with a cache transformers does not look where rows end."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.config.get_text_config().use_cache = False


def fill(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Numbers of the rows that share each row of ``room`` tokens; one that is longer has a row of its own.

    >>> fill([3, 2, 4], room=6)
    [[2, 1], [0]]
    """
    packs: list[list[int]] = []
    open_: dict[int, list[int]] = {}  # packs by the tokens that they still have room for
    left: list[int] = []  # those numbers of tokens, sorted
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = bisect_left(left, lengths[row])
        if place == len(left):
            pack, free = len(packs), max(room, lengths[row])
            packs.append([])
        else:
            free = left[place]
            pack = open_[free].pop()
            if not open_[free]:
                del open_[free], left[place]
        packs[pack].append(row)
        rest = free - lengths[row]
        if rest not in open_:
            open_[rest] = []
            insort(left, rest)
        open_[rest].append(pack)
    return packs


def collate_packed(packs: Sequence[Packed], pad: int, device: str) -> dict[str, torch.Tensor]:
    """A batch of packed rows, filled up at the end with a row of padding that nothing is learned from.

    Returns:
        input_ids, position_ids and labels, each of shape (packs, longest), tokens of the longest. There is no mask:
        positions that start again say where a row begins. The first token of a row is predicted by nothing.
    """
    import torch

    longest = max(len(pack) for pack in packs)
    ids = torch.full((len(packs), longest), pad)
    labels = torch.full((len(packs), longest), IGNORED)
    positions = torch.zeros((len(packs), longest), dtype=torch.long)
    for number, pack in enumerate(packs):
        at = 0
        for row in pack.rows:
            end = at + len(row)
            ids[number, at:end] = torch.tensor(row.ids)
            labels[number, at + row.prompt : end] = torch.tensor(wanted(row))
            labels[number, at] = IGNORED
            positions[number, at:end] = torch.arange(len(row))
            at = end
        positions[number, at:] = torch.arange(longest - at)
    made = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {name: tensor.to(device) for name, tensor in made.items()}
