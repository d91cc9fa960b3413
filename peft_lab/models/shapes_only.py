"""Running PEFT's own set-up code for the shapes it creates, on models without values.

Everything made inside :func:`shapes_only` is on the meta device. Most tuners need no more: nothing is computed, and a
70B model is adapted in a fraction of a second. A few read values on the way although no shape depends on them; each
of those reads has a stand-in here, with the reason. A test counts every PEFT type here and on a small real model and
holds the two equal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Filling a tensor that has no values is a detour through several layers of torch, taken for every adapted map.
_FILLS = frozenset(
    {
        "kaiming_uniform_",
        "kaiming_normal_",
        "xavier_uniform_",
        "xavier_normal_",
        "trunc_normal_",
        "orthogonal_",
    }
    | {"uniform_", "normal_", "zeros_", "ones_", "constant_", "zero_", "fill_"}
)
_LOCK = threading.Lock()  # the stand-ins are set on PEFT's modules, which all threads share


@contextmanager
def shapes_only() -> Iterator[None]:
    """Create on the meta device and keep there what library code would move to the CPU."""
    import torch
    from torch.fx.experimental import _config

    with _LOCK, ExitStack() as stack:
        for owner, name, stand_in in _stand_ins():
            stack.callback(setattr, owner, name, owner.__dict__[name])
            setattr(owner, name, stand_in)
        # A boolean mask picks an unknown number of entries; the full number serves, as PEFT only samples from them.
        stack.callback(
            setattr, _config, "meta_nonzero_assume_all_nonzero", _config.meta_nonzero_assume_all_nonzero
        )
        _config.meta_nonzero_assume_all_nonzero = True
        stack.enter_context(torch.device("meta"))
        stack.enter_context(_mode())
        yield


def untrained_adapter(lora_model: Any, adapter_name: str, model_id: Mapping[str, Any], **_: Any) -> None:
    """For X-LoRA's reading of an adapter's folder: an adapter of these settings of LoRA, without weights."""
    from peft import LoraConfig

    lora_model.peft_config[adapter_name] = LoraConfig(**model_id)
    lora_model.inject_adapter(lora_model.model, adapter_name)


def _mode() -> Any:
    import torch
    from torch.overrides import TorchFunctionMode

    class StayOnMeta(TorchFunctionMode):
        """Copies to the CPU stay where they are; counting into bins gives the bins without their counts."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            name = getattr(func, "__name__", "")
            if name in _FILLS:
                target = args[0] if args else kwargs["tensor"]
                if target.is_meta:
                    return target
            if name in ("cpu", "to", "bincount") and isinstance(args[0], torch.Tensor) and args[0].is_meta:
                if name == "cpu":
                    return args[0]
                if name == "bincount":
                    return torch.empty(kwargs.get("minlength", 0), dtype=torch.long, device="meta")
                args = tuple("meta" if _is_cpu(value) else value for value in args)
                kwargs = {key: "meta" if _is_cpu(value) else value for key, value in kwargs.items()}
            return func(*args, **kwargs)

    return StayOnMeta()


def _is_cpu(value: Any) -> bool:
    import torch

    return (
        value == "cpu" if isinstance(value, str) else isinstance(value, torch.device) and value.type == "cpu"
    )


def _stand_ins() -> list[tuple[Any, str, Any]]:
    """(owner, attribute, replacement) for the places in PEFT that read values."""
    import torch
    from peft.tuners.adamss import layer as adamss
    from peft.tuners.boft.layer import BOFTLayer
    from peft.tuners.cpt.model import CPTEmbedding
    from peft.tuners.lora import monteclora as lora_monteclora
    from peft.tuners.lora.layer import Embedding, LoraLayer
    from peft.tuners.lora.variants import KasaLinearVariant, MontecloraLinearVariant
    from peft.tuners.xlora import model as xlora

    def slice_pca(tensor: torch.Tensor, r: int, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors' shapes; the values would come from a decomposition of the weight."""
        batch, channels, rows, columns = tensor.shape
        rank = min(r, rows, columns)
        return torch.empty(batch, channels, rank, columns), torch.empty(batch, channels, rows, rank)

    def clustering(vectors: torch.Tensor, number: int, _: int) -> tuple[torch.Tensor, int]:
        """Clusters of equal size. Which row is in which depends on the weights, the sum of their sizes does not."""
        number = min(number, vectors.shape[0])
        return torch.arange(vectors.shape[0], device="cpu") % number, number

    def permutation(self: Any, indices: torch.Tensor) -> torch.Tensor:
        return torch.empty(len(indices), len(indices))

    def unprojected(self: Any) -> torch.Tensor:
        """CPT shortens rows that have grown too long; none has before training."""
        return self.delta_embedding.weight.detach()

    start_kasa, start_monteclora = KasaLinearVariant.init, MontecloraLinearVariant.init

    def mica(self: Any, adapter: str) -> None:
        """On the meta device PEFT leaves MiCA's start out, and with it the check of the rank."""
        shape = tuple(self.get_base_layer().weight.shape)
        if self.r[adapter] > min(shape):
            raise ValueError(
                f"MiCA takes a rank of at most {min(shape)} for weights of {shape}, not {self.r[adapter]}"
            )

    def kasa(module: Any, adapter_name: str, **more: Any) -> None:
        """As for MiCA: the truncation is put off, and with it the check."""
        start_kasa(module, adapter_name, **more)
        shape, rank = tuple(module.get_base_layer().weight.shape), module.r[adapter_name]
        if rank >= min(shape):
            raise ValueError(f"KaSA takes a rank below {min(shape)} for weights of {shape}, not {rank}")

    def monteclora(module: Any, adapter_name: str, config: Any, **more: Any) -> None:
        """The sampler, whose deviations are trained, is put off until there are values."""
        start_monteclora(module, adapter_name, config, **more)
        module.lora_monteclora_sampler[adapter_name] = MontecloraLinearVariant._create_sampler(
            module, adapter_name, config.monteclora_config
        )

    return [
        (LoraLayer, "mica_init", mica),
        (Embedding, "mica_init", mica),
        (KasaLinearVariant, "init", staticmethod(kasa)),
        (MontecloraLinearVariant, "init", staticmethod(monteclora)),
        # Random numbers drawn in advance: no parameters.
        (lora_monteclora, "BufferedMontecloraSampler", lambda *_, **__: None),
        (adamss, "slice_pca", slice_pca),
        (adamss, "clustering_Z", clustering),
        (BOFTLayer, "perm2mat", permutation),
        (CPTEmbedding, "get_projection", unprojected),
        (xlora, "_load_adapter_into_lora_model", untrained_adapter),
    ]
