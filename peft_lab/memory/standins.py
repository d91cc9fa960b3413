"""Where a method reads values that a model without weights does not have.

Most PEFT methods build on the meta device and step on fake tensors as they are. The few that look at values get the
smallest stand-in that leaves every shape and every allocation of the training step what it is; each is listed here with
what it replaces. Building an adapter is not simulated, training it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from peft_lab.models.shapes_only import untrained_adapter
from peft_lab.replacing import Replacement

if TYPE_CHECKING:
    import torch

#: Methods whose adapter is built of real (small) tensors beside the base without values: they place indices and
#: permutations by value, and the meta device would lose those.
REAL_ADAPTER = frozenset({"ADAMSS", "BOFT", "FROD", "SHIRA", "UNILORA"})


def needs_real_adapter(config: Any) -> bool:
    """Whether a PEFT config (or a callable, or None) belongs to :data:`REAL_ADAPTER`."""
    peft_type = getattr(config, "peft_type", None)
    return str(getattr(peft_type, "value", peft_type)) in REAL_ADAPTER


def refusal(config: Any, checkpointing: bool) -> str | None:
    """Why a step with a PEFT config (or a callable, or None) cannot be simulated, where no stand-in would do."""
    peft_type = getattr(config, "peft_type", None)
    kind = str(getattr(peft_type, "value", peft_type))
    if getattr(config, "alora_invocation_tokens", None):
        return "aLoRA starts where its invocation tokens stand in the text: without a text it cannot be simulated."
    if kind == "POLY" and checkpointing:
        return (
            "Poly cannot be trained with gradient checkpointing: PEFT tells its modules the task in the forward pass "
            "only, and layers are computed again after it."
        )
    return None


@contextmanager
def building(config: Any) -> Iterator[None]:
    """Stand-ins while PEFT injects the adapter of ``config`` (which may be changed)."""
    import torch

    peft_type = str(getattr(config.peft_type, "value", config.peft_type))
    if peft_type == "SHIRA":
        config.mask_fn = _first_positions
    with ExitStack() as stack:
        if needs_real_adapter(config):
            stack.enter_context(_copies_stay())
        else:
            stack.enter_context(torch.device("meta"))
        for replacement, stand_in in _BUILDING.get(peft_type, ()):
            stack.enter_context(replacement.by(stand_in))
        yield


def _copies_stay() -> Any:
    """A mode in which a tensor without values can be 'copied' to the CPU: the copy has no values either."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    to_copy = torch.ops.aten._to_copy.default

    class CopiesStay(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            if func is to_copy and args[0].is_meta:
                kwargs["device"] = torch.device("meta")
            return func(*args, **kwargs)

    return CopiesStay()  # type: ignore[no-untyped-call]


def _even_clusters(rows: torch.Tensor, num_subspaces: int, iterations: int) -> tuple[torch.Tensor, int]:
    """For k-means over singular vectors: clusters of equal size. Real clusters differ in size by a few rows,
    which moves rows of B between subspaces but not their number."""
    import torch

    count = min(num_subspaces, rows.shape[0])
    return torch.arange(rows.shape[0]) % count, count


def _shared_basis(matrices: list[torch.Tensor], regularization_alpha: float) -> torch.Tensor:
    """For FRoD's joint decomposition on the CPU: its result's shape, inputs by inputs."""
    import torch

    width = matrices[0].shape[1]
    return torch.empty(width, width)


def _basis_coordinates(
    self: Any, basis: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """For FRoD's solve against that basis: directions (out by in) and their lengths."""
    import torch

    return torch.empty(weight.shape), torch.empty(weight.shape[1])


def _first_positions(base_layer: torch.nn.Module, r: int, **_: Any) -> torch.Tensor:
    """For SHiRA's random mask: as many positions, the first ones instead of drawn ones."""
    import torch
    from peft.tuners.tuners_utils import _get_in_out_features

    inputs, outputs = _get_in_out_features(base_layer)
    assert inputs is not None and outputs is not None
    mask = torch.zeros(outputs * inputs, dtype=torch.bool)
    mask[: r * (inputs + outputs)] = True
    return mask.view(outputs, inputs)


CLUSTERS = Replacement(
    "AdaMSS clusters",
    "peft.tuners.adamss.layer",
    "clustering_Z",
    "k-means reads the singular vectors of the base, which has no values.",
)
SHARED_BASIS = Replacement(
    "FRoD basis",
    "peft.tuners.frod.model",
    "_projection_from_weights",
    "The joint decomposition reads the weights of the base, which has no values.",
)
BASIS_COORDINATES = Replacement(
    "FRoD coordinates",
    "peft.tuners.frod.layer",
    "FrodLayer._calculate_frod_u_and_lambda",
    "Solving for the weights of the base reads them, and it has no values.",
)
MIXED_ADAPTERS = Replacement(
    "X-LoRA adapters",
    "peft.tuners.xlora.model",
    "_load_adapter_into_lora_model",
    "The adapters that are mixed are read from folders, whose weights a model without values has no use for.",
)
_BUILDING: dict[str, tuple[tuple[Replacement, Callable[..., Any]], ...]] = {
    "ADAMSS": ((CLUSTERS, _even_clusters),),
    "XLORA": ((MIXED_ADAPTERS, untrained_adapter),),
    "FROD": ((SHARED_BASIS, _shared_basis), (BASIS_COORDINATES, _basis_coordinates)),
}
