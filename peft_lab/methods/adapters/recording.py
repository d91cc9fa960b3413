"""Record a run of adapters: how much each adds to its input, over the steps, and how far it is from linear.

A linear map could be merged into the frozen matrix before it, as LoRA's can. So the best linear replacement of each
adapter is fitted to real activations; its error is what merging would lose. Torch is imported inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from peft_lab.core.later import torch
from peft_lab.methods.recording.recorder import (
    ADAPTER,
    LONG,
    THIN,
    FreshBase,
    Inputs,
    Recorder,
    WatchedFromStart,
    copied,
    restored,
    slot_of,
    tensor_picture,
)
from peft_lab.methods.shared import bottleneck
from peft_lab.training.batches import writes_at

PLAYED_ROWS = 16
KEPT_BYTES = 300e6  # of snapshots; beyond it, only the first and the latest are kept
AT_ONCE = 16  # rows of one forward pass
FITTED = 0.75  # share of the rows whose tokens the linear maps are fitted to; the rest tests them
ENOUGH = 2  # tokens per input of the map; with fewer, a fit is meaningless
TINY = 1e-10  # eigenvalues of the inputs' covariance below this share of the largest count as zero


@dataclass(frozen=True)
class Affine:
    """An affine map ``x @ matrix + offset``: (tokens, d_in) to (tokens, d_out), in float64 on the CPU."""

    matrix: torch.Tensor
    offset: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return _exact(x) @ self.matrix + self.offset


@contextmanager
def listening(model: torch.nn.Module) -> Iterator[dict[str, list[Any]]]:
    """Yield every adapter's inputs and outputs, by its host's path, as the model runs: pairs (rows, length, width)."""
    heard: dict[str, list[Any]] = {}
    handles = []
    for path, (module, scale) in bottleneck.modules_of(model, ADAPTER).items():
        heard[path] = []

        def note(_: Any, args: Any, output: Any, path: str = path, scale: float = scale) -> None:
            heard[path].append((args[0].detach(), output.detach() * scale))

        handles.append(module.register_forward_hook(note))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def answers(model: torch.nn.Module, inputs: Inputs) -> torch.Tensor:
    """Return the logits of each row, float32: of the classes, of each token's labels, or of the token after the last.
    Of shape (rows, classes), (rows, length, labels) with zeros at the padding, or (rows, vocabulary)."""
    found: list[Any] = [None] * len(inputs["input_ids"])
    with torch.no_grad():
        for rows, chunk in _chunks(inputs):
            logits = model(**chunk).logits
            if logits.dim() == 3 and model.get_output_embeddings() is None:  # type: ignore[operator]
                room = inputs["attention_mask"].shape[1] - logits.shape[1]
                logits = torch.nn.functional.pad(logits * chunk["attention_mask"][..., None], (0, 0, 0, room))
            elif logits.dim() == 3:
                last = writes_at(model, chunk).sum(1) - 1
                logits = logits[torch.arange(len(logits)), last]
            for row, values in zip(rows, logits.float(), strict=True):
                found[row] = values
    return torch.stack(found)


def activations(model: torch.nn.Module, inputs: Inputs) -> dict[str, Any]:
    """Return each adapter's input and output on the real tokens of ``inputs``: ``path: (reads, gives, rows)``, both
    (tokens, width) in float32 on the CPU, and the row index of every token (tokens,)."""
    with listening(model) as heard:
        answers(model, inputs)
    chunks = list(_chunks(inputs))
    read = [chunk["attention_mask"].bool() for _, chunk in chunks]
    written = [writes_at(model, chunk).bool() for _, chunk in chunks]
    found: dict[str, Any] = {}
    for path, pairs in heard.items():
        masks = read if path.startswith("encoder.") else written
        sides = (
            torch.cat([pair[side][real] for pair, real in zip(pairs, masks, strict=True)]).float().cpu()
            for side in (0, 1)
        )
        rows = [
            torch.tensor(rows, device=real.device)[:, None].expand_as(real)[real]
            for (rows, _), real in zip(chunks, masks, strict=True)
        ]
        found[path] = (*sides, torch.cat(rows).cpu())
    return found


def added(model: torch.nn.Module, inputs: Inputs) -> dict[str, float]:
    """Return the mean over tokens of ‖output‖ / ‖input‖ of each adapter, by the host's path. ``inputs``: ids and mask
    of shape (rows, length)."""
    return {
        path: float((gives.norm(dim=1) / reads.norm(dim=1)).mean())
        for path, (reads, gives, _) in activations(model, inputs).items()
    }


def fit(x: torch.Tensor, y: torch.Tensor) -> Affine:
    """Fit the affine map from ``x`` (tokens, d_in) to ``y`` (tokens, d_out) by least squares."""
    x, y = _exact(x), _exact(y)
    middle_x, middle_y = x.mean(0), y.mean(0)
    centred = x - middle_x
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    inverse = torch.where(values > TINY * values[-1], 1 / values, 0.0)
    matrix = vectors @ (inverse[:, None] * (vectors.T @ (centred.T @ (y - middle_y))))
    return Affine(matrix, middle_y - middle_x @ matrix)


def missed(line: Affine, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return ‖y - line(x)‖ / ‖y - its mean‖: 0 for a linear ``y``, 1 if the line is no better than a constant. ``x`` of
    shape (tokens, d_in), ``y`` (tokens, d_out)."""
    wanted = _exact(y)
    spread = float((wanted - wanted.mean(0)).norm())
    return float((wanted - line(x)).norm()) / spread if spread else 0.0


def fits(model: torch.nn.Module, inputs: Inputs) -> dict[str, tuple[Affine, float, float]]:
    """Return, for every adapter, the best affine map in its place, that map's error on other rows, and the error of the
    same fit to the same matrices without their nonlinear function, which is what a LoRA computes.

    ``inputs``: ids and mask of shape (rows, length). Both errors are as defined by :func:`missed`.

    Empty if there are too few tokens to fit.
    """
    heard = activations(model, inputs)
    modules = bottleneck.modules_of(model, ADAPTER)
    found = {}
    for path, (reads, gives, rows) in heard.items():
        train = rows < int(FITTED * len(inputs["input_ids"]))
        if int(train.sum()) < ENOUGH * reads.shape[1] or bool(train.all()):
            return {}
        straight, width = _without_function(modules[path][0], reads), gives.shape[1]
        both = fit(reads[train], torch.cat([gives[train], straight[train]], 1))
        line = Affine(both.matrix[:, :width], both.offset[:width])
        control = Affine(both.matrix[:, width:], both.offset[width:])
        found[path] = (
            line,
            missed(line, reads[~train], gives[~train]),
            missed(control, reads[~train], straight[~train]),
        )
    return found


def _exact(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` in float64 on the CPU; Apple's GPUs do not support it."""
    return x.cpu().double()


def _without_function(module: Any, reads: torch.Tensor) -> torch.Tensor:
    down, up = module.down, module.up
    with torch.no_grad():
        inside = _exact(reads) @ _exact(down.weight).T + _exact(down.bias)
        return inside @ _exact(up.weight).T + _exact(up.bias)


@contextmanager
def straightened(model: torch.nn.Module, lines: Mapping[str, Affine]) -> Iterator[None]:
    """Replace every adapter by an affine map: the model that merging would leave."""
    handles = []
    for path, (module, scale) in bottleneck.modules_of(model, ADAPTER).items():

        def replace(
            _: Any, args: Any, output: Any, line: Affine = lines[path], scale: float = scale
        ) -> torch.Tensor:
            return (line(args[0]) / scale).to(output)

        handles.append(module.register_forward_hook(replace))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _chunks(inputs: Inputs) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Yield chunks of rows of similar length, cut to the chunk's longest row, with the rows' numbers."""
    lengths = inputs["attention_mask"].sum(1)
    order = lengths.argsort(stable=True).tolist()
    for first in range(0, len(order), AT_ONCE):
        rows = order[first : first + AT_ONCE]
        longest = int(lengths[rows].max())
        chunk = {name: inputs[name][rows, :longest] for name in ("input_ids", "attention_mask")}
        if "decoder_input_ids" in inputs:
            chunk["decoder_input_ids"] = inputs["decoder_input_ids"][rows]
        yield rows, chunk


class RunRecorder(Recorder):
    """Record the adapters at some steps, and fit an affine map to each at the end."""

    rows: ClassVar[int] = 128

    def watched(self) -> Sequence[Hourglass]:
        """Return every adapter: after the attention (``attention``), or after or beside the feed-forward part
        (``ffn``)."""
        return [
            Hourglass(
                path,
                "attention" if slot_of(path, self.shape) == "o" else "ffn",
                self.model.get_submodule(path),
                module,
                scale,
            )
            for path, (module, scale) in bottleneck.modules_of(self.model, ADAPTER).items()
        ]

    def now(self) -> dict[str, torch.Tensor]:
        state = copied(bottleneck.parameters_of(self.model, ADAPTER))
        size = sum(tensor.nbytes for tensor in state.values())
        if len(self._kept) > 1 and size * (len(self._kept) + 1) > KEPT_BYTES:
            del self._kept[1:]
        return state

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        model, own = self.model, bottleneck.parameters_of(self.model, ADAPTER)
        few = {name: tensor[:PLAYED_ROWS] for name, tensor in inputs.items()}
        bottleneck.set_active(model, None)
        try:
            off = answers(model, few)
        finally:
            bottleneck.set_active(model, ADAPTER)
        played = []
        for step, state in self._kept:
            with restored(own, state):
                change = float((answers(model, few) - off).abs().max())
                played.append({"step": step, "added": added(model, few), "logit_change": change})
        with restored(own, self._kept[0][1]):
            start = fits(model, inputs)
        end = fits(model, inputs)
        mask, fitted = inputs["attention_mask"], int(FITTED * len(inputs["input_ids"]))
        straight: dict[str, Any] = {}
        if (
            end
        ):  # the answers on rows not used for fitting, with the adapters and with affine maps in their place
            other = {name: tensor[fitted:] for name, tensor in inputs.items()}
            with_adapters = answers(model, other)
            with straightened(model, {path: line for path, (line, *_) in end.items()}):
                with_lines = answers(model, other)
            straight = {
                "rows": len(with_lines),
                "changed": int((with_adapters.argmax(-1) != with_lines.argmax(-1)).sum()),
                "max_difference": float((with_adapters - with_lines).abs().max()),
                "max_logit": float(with_adapters.abs().max()),
            }
        return {
            "snapshots": played,
            "rows": len(few["input_ids"]),
            "tokens": int(few["attention_mask"].sum()),
            "dtype": str(next(iter(own.values())).dtype).removeprefix("torch."),
            "nonlinearity": self.values["nonlinearity"],
            "missed": {
                path: {"start": start[path][1], "trained": end[path][1], "without_function": end[path][2]}
                for path in end
            },
            "fitted": {"tokens": int(mask[:fitted].sum()), "judged": int(mask[fitted:].sum())},
            "straightened": straight,
        }


class Hourglass(WatchedFromStart):
    """One adapter, whose output is added to its host's.

    It starts near zero, so its change is measured relative to the host's matrix, not to its own start.
    """

    kind = "bottleneck"

    def __init__(self, path: str, slot: str, host: Any, module: Any, scale: float) -> None:
        down, up = module.down.weight, module.up.weight
        super().__init__(path, slot, (up.shape[0], down.shape[1]), list(module.parameters()), down.shape[0])
        self._host, self._module, self._scale = host, module, scale
        self._size: float | None = None

    def change(self) -> float | None:
        if self._size is None:
            matrices = [p for p in self._host.parameters() if not p.requires_grad and p.dim() > 1]
            self._size = math.hypot(*(float(each.detach().float().norm()) for each in matrices))
        moved = [float((now - start).norm()) for now, start in zip(self.now(), self._start, strict=True)]
        return math.hypot(*moved) / self._size if self._size else None

    def listen(self) -> Sequence[Any]:
        added: list[torch.Tensor] = []

        def keep(_: Any, args: Any, output: torch.Tensor) -> None:
            added.append(output.float() * self._scale)

        def compare(_: Any, args: Any, output: Any) -> None:
            whole = (output[0] if isinstance(output, tuple) else output).float()
            part = added[-1].reshape(whole.shape)
            self.share = float(part.norm() / (whole - part).norm())

        # The adapter is itself a hook of its host; a hook registered later sees the sum.
        return (self._module.register_forward_hook(keep), self._host.register_forward_hook(compare))

    def tensors(self) -> dict[str, dict[str, Any]]:
        return {
            "down": tensor_picture(self._module.down.weight, THIN, LONG),
            "up": tensor_picture(self._module.up.weight, LONG, THIN),
        }
