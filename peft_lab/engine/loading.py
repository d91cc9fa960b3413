"""Compute what the device and main memory hold at most while a base is loaded, quantised and split, from its shape.

As transformers 5 loads (``core_model_loading.convert_and_load_state_dict_in_model``): a file in the precision wanted is
mapped, not copied; tensors that are quantised on the way come one after the other. And as
:func:`peft_lab.takeaway.ranks.spread` splits: layer by layer, what is left last. Without the adapter.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from peft_lab.core import units
from peft_lab.engine.fake import BLOCK, NESTED_BLOCK
from peft_lab.engine.request import COMPUTING, WIDTHS
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import PACKED
from peft_lab.engine.step import TITLES
from peft_lab.models.quantise import Quantization, quantised
from peft_lab.models.shapes import ModelShape

#: How weights come to a device, by name.
LOADERS = TITLES["loaders"]


@dataclass(frozen=True)
class Loading:
    """The most bytes on each device and in the main memory of a process while a base is loaded, by one of
    :data:`LOADERS`; ``processes`` hold as much in main memory at the same time."""

    device_bytes: int
    main_bytes: int
    loader: str
    processes: int = 1

    @property
    def told(self) -> str:
        """Return how it loads and what that takes, as a part of a sentence."""
        held = f"{units.size(self.device_bytes)} on each device, {units.size(self.main_bytes)} in main memory"
        all_ = f" ({units.size(self.processes * self.main_bytes)} together)" if self.processes > 1 else ""
        return f"{LOADERS[self.loader]}: at most {held}{all_}"


def loading(
    shape: ModelShape,
    dtype: str,
    precision: str = "",
    own: Quantization | None = None,
    how: Sharding | None = None,
) -> Loading:
    """Return what loading a base takes as the lab's scripts load it. ``dtype``, ``precision``: of a step
    (:mod:`peft_lab.engine.request`); ``own``: how the method itself stores linear layers; ``how`` devices share the
    step."""
    packed, how = own or PACKED.get(dtype), how or Sharding()
    width = WIDTHS[COMPUTING[precision].stored or (dtype if dtype in WIDTHS else "bfloat16")]
    few = {group.path for group in quantised(shape)} if packed else set()
    parts = Counter[int | None]()
    passing = most = 0
    for group in shape.groups:
        for name in group.parameters.keys() - group.tied:
            count = math.prod(group.parameters[name])
            kept = width * count
            most = max(most, kept)
            if packed and name == "weight" and group.path in few:
                kept = _packed_bytes(count, packed.bits, packed.double)
                # the whole matrix beside; in 8 bits bitsandbytes copies it to float16 first
                passing = max(passing, (width + 2 * (packed.bits == 8)) * count)
            parts.update(dict.fromkeys(group.layers or (None,), kept))
    total = sum(parts.values())
    if how.runs in ("none", "ddp"):
        found = (total + passing, most, "device-map") if packed else (total, total, "main-memory")
        return Loading(*found, how.devices)
    shares = device = 0
    for layer in sorted(parts, key=lambda layer: (layer is None, layer)):
        share = 0 if how.offload else math.ceil(parts[layer] / how.devices)
        device = max(device, shares + parts[layer] + share)
        shares += share
    if how.runs == "fsdp2" and not packed:
        return Loading(device, total, "first-rank")
    return Loading(device, total + passing, "every-rank", how.devices)


def _packed_bytes(count: int, bits: int, double: bool) -> int:
    """Return the bytes of so many weights in 8 or 4 bits, 4 bits with the constants of their blocks."""
    if bits == 8:
        return count
    blocks = count / BLOCK
    return math.ceil(count / 2 + (blocks + 4 * blocks / NESTED_BLOCK if double else 4 * blocks))
