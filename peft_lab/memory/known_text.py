"""What CPT reads off a text, answered for one that is known: every token of it is learned.

CPT sorts tokens by their kinds (template, input, label), so its loss takes as many of them as there are labels. Tensors
without values cannot say how many that are, but of a batch whose every token is a label the number is known, and with
it every shape: those of a text of the same length without padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_KINDS = 4  # kinds of a token, which CPT counts on by example: 1 to 4, 5 to 8 ...


def is_cpt(config: Any) -> bool:
    """Whether a PEFT config (or a callable, or None) is CPT's."""
    kind = getattr(config, "peft_type", None)
    return str(getattr(kind, "value", kind)) == "CPT"


def true_entries(kinds: list[int], length: int) -> Mapping[tuple[int, int], int]:
    """How many entries of CPT's masks are true, in a row, by the mask's dimensions and the length of its rows.

    Args:
        kinds: of the prompt's tokens, as ``cpt_tokens_type_mask`` has them. length: tokens of a row of text.

    >>> true_entries([1, 2, 3, 4], 8)
    {(2, 8): 8, (2, 11): 9, (1, 11): 9, (1, 4): 3}
    """
    virtual = len(kinds)
    labels = length + sum(kind > 0 and kind % _KINDS == 0 for kind in kinds[1:])
    whole = virtual + length - 1  # the loss is of each token but the first
    moved = sum(kind > 0 and kind % _KINDS != 0 for kind in kinds)
    return {(2, length): length, (2, whole): labels, (1, whole): labels, (1, virtual): moved}


@contextmanager
def known_text(config: Any, length: int) -> Iterator[None]:
    """For as long as steps of CPT are simulated on rows of ``length`` tokens; nothing for another method.

    Raises:
        NotImplementedError: inside it, a mask that CPT does not make of such rows.
    """
    if not is_cpt(config):
        yield
        return
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    kinds = list(config.cpt_tokens_type_mask)
    known = true_entries(kinds, length)
    numbers = len({kind for kind in kinds[1:] if kind > 0 and kind % _KINDS == 0}) + 1  # and the text's own
    aten = torch.ops.aten
    puts = (aten.index_put_.default, aten._index_put_impl_.default)

    def places(mask: torch.Tensor) -> list[torch.Tensor]:
        """Where a mask is true, a tensor of (true entries) for each of its dimensions, as ``nonzero`` finds it."""
        each = known.get((mask.dim(), mask.shape[-1]))
        if each is None:
            raise NotImplementedError(f"CPT asks which entries of a mask of {tuple(mask.shape)} are true")
        rows = mask.shape[0] if mask.dim() == 2 else 1
        return list(torch.empty(rows * each, mask.dim(), dtype=torch.long, device=mask.device).unbind(1))

    def without_values(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.is_meta and value.dtype is torch.bool

    class Known(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is aten._local_scalar_dense.default and without_values(args[0]):
                return True  # whether any token has moved: after the first step
            if func is aten._unique2.default and args[0].is_meta:
                made = args[0].new_empty(numbers)
                return made, made.new_empty(0, dtype=torch.long), made.new_empty(0, dtype=torch.long)
            if func in puts and len(args[1]) == 1 and without_values(args[1][0]) and args[2].numel() == 1:
                return aten.masked_fill_.Tensor(args[0], args[1][0], args[2])  # as torch does with one value
            if func in (aten.index.Tensor, *puts):
                args = (args[0], _spelled(args[1]), *args[2:])
            return func(*args, **(kwargs or {}))

    def _spelled(indices: Any) -> list[Any]:
        return [place for each in indices for place in (places(each) if without_values(each) else [each])]

    with Known():  # type: ignore[no-untyped-call]
        yield
