"""The optimizers of a simulated step, as they run on the device in question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.errors import BadInput, Unsupported
from peft_lab.training.together import MuonBesideAdamW, outside_layers

if TYPE_CHECKING:
    import torch

#: How each is written on a page, in the order in which to offer them.
OPTIMIZER_TITLES: dict[str, str] = {
    "adamw": "AdamW",
    "adamw8bit": "AdamW, 8-bit",
    "paged_adamw8bit": "AdamW, 8-bit, paged",
    "paged_adamw": "AdamW, paged",
    "adafactor": "Adafactor",
    "muon": "Muon with AdamW",
    "lorafa": "LoRA-FA",
    "sgd": "SGD",
}
OPTIMIZERS: tuple[str, ...] = tuple(OPTIMIZER_TITLES)
OF_BITSANDBYTES = ("adamw8bit", "paged_adamw8bit", "paged_adamw")

_BLOCK_8BIT = 256  # bitsandbytes/optim/optimizer.py, Optimizer2State.init_state
_MIN_8BIT = 4096  # min_8bit_size: smaller parameters keep 32-bit moments
_MIN_PAGED = 100_000  # get_state_buffer: smaller states are not paged
_QMAP = 256  # entries of each of the two dynamic maps, one pair for all parameters


def make(name: str, model: torch.nn.Module, foreach: bool) -> Any:
    """The optimizer over a model's parameters that need gradients.

    ``foreach``: whether torch's AdamW and SGD work on lists of tensors, which is their default on CUDA and makes
    temporaries of the size of all moments at once. Adafactor and Muon take one parameter after the other there too.

    Raises:
        BadInput: an unknown name. Unsupported: LoRA-FA's on a model without LoRA's pairs.
    """
    import torch

    if name == "lorafa":
        return _lora_fa(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        return Nothing()
    if name == "adamw":
        return torch.optim.AdamW(trained, foreach=foreach)
    if name == "sgd":
        return torch.optim.SGD(trained, lr=1e-3, foreach=foreach)
    if name == "adafactor":
        return _CountingOnHost(torch.optim.Adafactor(trained))
    if name == "muon":
        return MuonBesideAdamW(trained, outside_layers(model), foreach=foreach)
    if name in OF_BITSANDBYTES:
        return BlockwiseAdam(trained, bits=32 if name == "paged_adamw" else 8, paged=name.startswith("paged"))
    raise BadInput(f"There is no optimizer called '{name}'. Known: {', '.join(OPTIMIZERS)}.", "optimizer")


def _lora_fa(model: Any) -> Any:
    """PEFT's, which freezes every A and turns B's gradient by a pseudo-inverse of A's products."""
    config = getattr(model, "active_peft_config", None)
    kind = getattr(config, "peft_type", None)
    if config is None or str(getattr(kind, "value", kind)) != "LORA":
        raise Unsupported(
            "LoRA-FA's optimizer trains LoRA's pairs alone, which this method has none of.", "optimizer"
        )
    from peft.optimizers import create_lorafa_optimizer

    return _CountingOnHost(create_lorafa_optimizer(model, r=config.r, lora_alpha=config.lora_alpha, lr=1e-3))


class _CountingOnHost:
    """An optimizer of torch's kind that makes what it counts with (a step's number) in main memory, as it does beside
    parameters on a device: what is made without saying where is on the simulated device otherwise."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def zero_grad(self) -> None:
        """Lets all gradients go."""
        self._optimizer.zero_grad()

    def step(self) -> None:
        """An update."""
        import torch

        with torch.device("cpu"):
            self._optimizer.step()


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
