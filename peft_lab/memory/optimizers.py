"""The optimizers of a simulated step, as they run on the device in question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.errors import BadInput

if TYPE_CHECKING:
    import torch

#: How each is written on a page, in the order in which to offer them.
OPTIMIZER_TITLES: dict[str, str] = {
    "adamw": "AdamW",
    "adamw8bit": "AdamW, 8-bit",
    "paged_adamw8bit": "AdamW, 8-bit, paged",
    "paged_adamw": "AdamW, paged",
    "sgd": "SGD",
}
OPTIMIZERS: tuple[str, ...] = tuple(OPTIMIZER_TITLES)

_BLOCK_8BIT = 256  # bitsandbytes/optim/optimizer.py, Optimizer2State.init_state
_MIN_8BIT = 4096  # min_8bit_size: smaller parameters keep 32-bit moments
_MIN_PAGED = 100_000  # get_state_buffer: smaller states are not paged
_QMAP = 256  # entries of each of the two dynamic maps, one pair for all parameters


def make(name: str, parameters: Sequence[torch.nn.Parameter], foreach: bool) -> Any:
    """The optimizer over the parameters that need gradients.

    ``foreach``: whether torch's own optimizers work on lists of tensors, which is their default on CUDA and makes
    temporaries of the size of all moments at once.

    Raises BadInput for an unknown name.
    """
    import torch

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return Nothing()
    if name == "adamw":
        return torch.optim.AdamW(trained, foreach=foreach)
    if name == "sgd":
        return torch.optim.SGD(trained, lr=1e-3, foreach=foreach)
    if name in ("adamw8bit", "paged_adamw8bit", "paged_adamw"):
        return BlockwiseAdam(trained, bits=32 if name == "paged_adamw" else 8, paged=name.startswith("paged"))
    raise BadInput(f"There is no optimizer called '{name}'. Known: {', '.join(OPTIMIZERS)}.", "optimizer")


class Nothing:
    """Updates nothing, as nothing is trained."""

    def zero_grad(self) -> None:
        """There are no gradients."""

    def step(self) -> None:
        """There are no states."""


class BlockwiseAdam:
    """bitsandbytes' AdamW: its states, made in its order; its kernels work in place and take nothing more.

    Paged states live in memory that the host and the device share and count for the host (``paged_bytes``): the driver
    moves pages to the device while there is room.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], bits: int, paged: bool) -> None:
        self.parameters = parameters
        self.bits = bits
        self.paged = paged
        self.state: dict[int, list[torch.Tensor]] = {}
        self._qmaps: list[torch.Tensor] = []

    def paged_bytes(self, parameters: Sequence[torch.nn.Parameter] | None = None) -> int:
        """Bytes of paged states once every parameter (or each of these) has had a gradient."""
        size = 8 if self.bits == 32 else 2
        return sum(
            p.numel() * (size if p.numel() >= _MIN_8BIT else 8)
            for p in (self.parameters if parameters is None else parameters)
            if p.requires_grad and self.paged and p.numel() >= _MIN_PAGED
        )

    def zero_grad(self) -> None:
        """Lets all gradients go."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Makes the states of the parameters that have a gradient and no states yet."""
        import torch

        for index, parameter in enumerate(self.parameters):
            if parameter.grad is not None and index not in self.state:
                with torch.no_grad():
                    self.state[index] = self._init_state(parameter)

    def _init_state(self, parameter: torch.nn.Parameter) -> list[torch.Tensor]:
        import torch

        count = parameter.numel()
        if self.bits == 32 or count < _MIN_8BIT:
            return self._buffers(parameter, torch.float32)
        if not self._qmaps:
            self._qmaps = [torch.empty(_QMAP, dtype=torch.float32) for _ in range(2)]
        states = self._buffers(parameter, torch.uint8)
        blocks = -(-count // _BLOCK_8BIT)
        return states + [parameter.new_zeros(blocks, dtype=torch.float32) for _ in range(2)]

    def _buffers(self, parameter: torch.nn.Parameter, dtype: torch.dtype) -> list[torch.Tensor]:
        import torch

        if self.paged and parameter.numel() >= _MIN_PAGED:
            return []
        return [torch.zeros_like(parameter, dtype=dtype) for _ in range(2)]
