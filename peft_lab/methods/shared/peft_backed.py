"""Provide the base of PEFT's own methods: apply, save, load and state call the library."""

from __future__ import annotations

import ast
import copy
import threading
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import cache
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.core import disk
from peft_lab.core.errors import BadInput, PeftLabError, Unsupported
from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import MethodSpec
from peft_lab.models.catalogue import REFUSALS, fitting_shapes, misshapen, reason
from peft_lab.models.heads import CLASSIFYING, TaskType
from peft_lab.models.loading import no_pickles
from peft_lab.models.meta import shapes_only
from peft_lab.models.shapes import HEADS, ModelShape, in_head

if TYPE_CHECKING:
    from peft import PeftConfig


class PeftMethod(MethodSpec):
    """A method applied by ``peft.get_peft_model`` with the config that :meth:`config` makes."""

    @abstractmethod
    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig:
        """Return the PEFT config for complete and checked values."""

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        config = config_of(self, shape, values, task_type)
        assert config is not None  # PEFT implements all of these methods
        return wrap(model, config)

    def save(self, model: torch.nn.Module, directory: Path) -> None:
        model.save_pretrained(str(directory), safe_serialization=True)  # type: ignore[operator]
        # A template with a path of this machine. A run's model card is written by peft_lab/takeaway.
        (directory / "README.md").unlink(missing_ok=True)

    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        from peft import PeftModel

        with no_pickles(), fitting_shapes():
            loaded: Any = PeftModel.from_pretrained(model, str(directory))
        return loaded

    def state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        with shapes_only() if on_meta(model) else nullcontext():
            return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def config_of(
    method: MethodSpec, shape: ModelShape, values: Values, task_type: TaskType
) -> PeftConfig | None:
    """Return a method's PEFT config for the task, ``None`` if PEFT lacks the method. PEFT has no task type for images:
    the config then has none and names the head to save, as in PEFT's own guide to image classification. PEFT's
    ``all-linear`` leaves out the head of SEQ_CLS but not that of TOKEN_CLS, which is excluded here."""
    if task_type == "TOKEN_CLS":
        config = method.config(shape, values, task_type)
        if getattr(config, "target_modules", None) == "all-linear":
            config.exclude_modules = list(HEADS)  # type: ignore[union-attr]
        return config
    if task_type != "IMAGE_CLS":
        return method.config(shape, values, task_type)
    config = method.config(shape, values, "SEQ_CLS")
    if config is not None:
        config.task_type = None
        config.modules_to_save = [HEADS[0]]  # type: ignore[attr-defined]
    return config


def wrap(model: Any, config: PeftConfig) -> torch.nn.Module:
    """Call ``get_peft_model``; on a meta model nothing is created on the CPU first. Raises Unsupported: PEFT refuses
    these settings on this model; the message gives PEFT's reason."""
    from peft import get_peft_model

    with shapes_only() if on_meta(model) else nullcontext():
        try:
            peft_model: Any = get_peft_model(model, config)
        except REFUSALS as error:
            kind = getattr(config.peft_type, "value", config.peft_type)
            architecture = model.config.model_type
            raise Unsupported(
                f"PEFT cannot apply {kind} with these settings to a '{architecture}' model: {reason(error)}"
            ) from error
    return peft_model


def on_meta(model: torch.nn.Module) -> bool:
    """Return whether a model has shapes only and no values."""
    return next(model.parameters()).is_meta


# ----------------------------------------
# Saving and loading for the methods that PEFT lacks: the same two files, with a ``peft_type`` of our own.
#
# When a method is applied, the names of the tensors to save are stored on the model, so that a saved adapter holds
# what was trained (task head included) whatever happens to ``requires_grad`` later.


CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_NOTE = "_peft_lab_trained"


def train_only(model: torch.nn.Module, names: Iterable[str], task_type: TaskType) -> None:
    """Freeze all but ``names`` (and a classifier's head), and store them on the model for :func:`trained_state`."""
    wanted = set(names)
    for name, parameter in model.named_parameters():
        head = task_type in CLASSIFYING and in_head(name)
        parameter.requires_grad_(name in wanted or head)
        if head:
            wanted.add(name)
    setattr(model, _NOTE, tuple(name for name, _ in model.named_parameters() if name in wanted))
    allow_checkpointing(model)


def allow_checkpointing(model: Any) -> None:
    """Make inputs require gradients under checkpointing; with frozen embeddings reentrant checkpointing gives none."""
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        model.enable_input_require_grads()


def trained_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the noted parameters by name, detached. Each has the shape it has in the model."""
    noted = set(getattr(model, _NOTE))
    return {name: parameter.detach() for name, parameter in model.named_parameters() if name in noted}


class OwnFormat(MethodSpec):
    """A method that trains parameters of the model itself; its files have the ``peft_type``."""

    peft_type: ClassVar[str]

    def state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        return trained_state(model)

    def save(self, model: torch.nn.Module, directory: Path) -> None:
        write_own_format(directory, {"peft_type": self.peft_type}, self.state(model))

    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        read_config(directory, self.peft_type)
        restore_adapter(model, read_state(directory))
        return model


def write_own_format(directory: Path, config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    """Write config and weights into a folder, creating it; each tensor keeps its shape."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    disk.write_json(directory / CONFIG_FILE, config)
    tensors = {name: tensor.contiguous().clone().cpu() for name, tensor in state.items()}
    save_file(tensors, str(directory / WEIGHTS_FILE), metadata={"format": "pt"})


def read_config(directory: Path, peft_type: str) -> dict[str, Any]:
    """Return an adapter's config. Raises :class:`BadInput` if the folder holds no adapter of this type."""
    config = read_any_config(directory)
    if config.get("peft_type") != peft_type:
        raise BadInput(f"This adapter is of type {config.get('peft_type')}, not {peft_type}.", "adapter")
    return config


def read_any_config(directory: Path) -> dict[str, Any]:
    """Return the config of an adapter of any type. Raises :class:`BadInput` if there is none."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise BadInput(f"There is no {CONFIG_FILE} in {directory.name}.", "adapter")
    config: dict[str, Any] = disk.read_json(path)
    return config


def read_state(directory: Path) -> dict[str, torch.Tensor]:
    """Return the saved tensors by name, each in the shape it was saved in."""
    from safetensors.torch import load_file

    return load_file(str(directory / WEIGHTS_FILE))


def copy_into(own: Mapping[str, torch.nn.Parameter], state: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the parameters of the same names. Raises BadInput: there is no parameter of that name, or it
    has another shape."""
    require_same(own, state)
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def require_same(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    """Check that ``own`` has every tensor of ``state`` in the same shape. Raises :class:`BadInput` otherwise."""
    for name, tensor in state.items():
        if name not in own:
            raise BadInput(f"The adapter contains '{name}', which this model does not have.", "adapter")
        if own[name].shape != tensor.shape:
            raise misshapen("The adapter", name, tensor.shape, own[name].shape)


def restore_adapter(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy a saved state into a fresh base, store its names there, and freeze it: loading is for use, as in PEFT. Each
    tensor has the shape of its parameter."""
    copy_into(dict(model.named_parameters()), state)
    model.requires_grad_(False)
    setattr(model, _NOTE, tuple(state))
    model.eval()


def without_dropout(model: Any) -> None:
    """Switch the dropout of a frozen base off.

    Dropout keeps weights that are trained from relying on each other; here no matrix is trained, and it would only
    blur the little that reaches a dozen vectors in a short training. Torch is imported inside.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(
            getattr(module, "dropout", None), float
        ):  # T5's attention hands its share to a function
            module.dropout = 0.0


# ----------------------------------------
# Task heads of several adapters on one classifier: each adapter answers through the head it was trained with.
#
# A copy of the head is kept for every adapter, as a child of the model's own head, which is not changed. A forward
# hook replaces the head's output by the active copy's, for the whole batch or row by row.


HEAD_CHILD = "of_adapters"  # attribute of the head that holds the copies
Active = str | tuple[str | None, ...] | None


@cache
def _kind() -> type[Any]:
    from torch import nn

    class Heads(nn.Module):
        """The copies by adapter name. ``active`` as in :mod:`peft_lab.methods.shared.bottleneck`."""

        def __init__(self) -> None:
            super().__init__()
            self.copies = nn.ModuleDict()
            self.active: Active = None

        def forward(self, head: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            """Replace the head's output, as a forward hook. ``args``: (states,), rows first."""
            if self.active is None:
                return output
            if isinstance(self.active, str):
                return self.copies[self.active](*args) if self.active in self.copies else output
            mixed = output.clone()
            for name in dict.fromkeys(self.active):
                if name is not None and name in self.copies:
                    rows = [row for row, other in enumerate(self.active) if other == name]
                    mixed[rows] = self.copies[name](args[0][rows])
            return mixed

    return Heads


def add_head(model: torch.nn.Module, name: str, state: Mapping[str, torch.Tensor]) -> None:
    """Store a head for an adapter. ``state``: the head's parameters by their path in the model. Each has the shape it
    has in the model. Raises BadInput: this model's head lacks some of the parameters."""
    own = dict(model.named_parameters())
    require_same(own, state)
    root = _root(next(iter(state)))
    head = model.get_submodule(root)
    heads = getattr(head, HEAD_CHILD, None)
    made: Any = copy.deepcopy(head)
    if heads is None:
        heads = _kind()()
        head.register_forward_hook(heads)
        setattr(head, HEAD_CHILD, heads)
    else:
        delattr(made, HEAD_CHILD)
        made._forward_hooks.clear()
    inside = {key.removeprefix(f"{root}."): tensor for key, tensor in state.items()}
    copy_into(dict(made.named_parameters()), inside)
    made.requires_grad_(False)
    heads.copies[name] = made


def set_active_head(model: torch.nn.Module, active: Active) -> None:
    """Answer through the heads of these adapters; ``None``, or an adapter without a head, uses the model's own."""
    for _, heads in _adapted_modules(model):
        heads.active = active


def head_state(model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    """Return the parameters of one adapter's head by their path in the model; empty if none is stored for it. Each has
    the shape it has in the model."""
    found = {}
    for path, heads in _adapted_modules(model):
        if name in heads.copies:
            root = path.removesuffix(f".{HEAD_CHILD}")
            for key, parameter in heads.copies[name].named_parameters():
                found[f"{root}.{key}"] = parameter.detach()
    return found


def remove_head(model: torch.nn.Module) -> None:
    """Remove all copies of heads."""
    for path, heads in _adapted_modules(model):
        head = model.get_submodule(path.removesuffix(f".{HEAD_CHILD}"))
        delattr(head, HEAD_CHILD)
        for key in [key for key, hook in head._forward_hooks.items() if hook is heads]:
            del head._forward_hooks[key]


def _adapted_modules(model: torch.nn.Module) -> list[tuple[str, Any]]:
    return [(path, module) for path, module in model.named_modules() if isinstance(module, _kind())]


def _root(parameter: str) -> str:
    """Return ``classifier`` for ``classifier.out_proj.weight``."""
    parts = parameter.split(".")
    last = next(index for index, part in enumerate(parts) if part in HEADS)
    return ".".join(parts[: last + 1])


# ----------------------------------------
# PEFT's own tables of default targets, read from the installed PEFT's source: importing it would import torch.
#
# The tables are literals in ``peft/utils/constants.py``; a test compares the result with what PEFT imports.


#: Python 3.11 fails if two threads build syntax trees at once ("recursion depth mismatch", CPython issue 106905).
_parsing = threading.Lock()
#: Architecture (``model_type``) to target names, or to a regular expression for whole paths.
Table = Mapping[str, tuple[str, ...] | str]


@cache
def lora_targets() -> Table:
    """Return PEFT's default targets of LoRA."""
    return _read_tables("TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING")


@cache
def ia3_targets() -> Table:
    """Return PEFT's default targets of IA³."""
    return _read_tables("TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING")


@cache
def ia3_feedforward() -> Table:
    """Return those of PEFT's IA³ targets whose input is multiplied."""
    return _read_tables("TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING")


def _read_tables(name: str) -> Table:
    """Return one table by the name of PEFT's constant. Raises PeftLabError: the installed PEFT keeps its tables
    elsewhere, or not as literals."""
    for node in _constants_of_peft().body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            try:
                table = ast.literal_eval(node.value)
            except ValueError:
                break
            return {kind: names if isinstance(names, str) else tuple(names) for kind, names in table.items()}
    raise PeftLabError(
        f"The installed PEFT does not have its default targets in the expected place ({name})."
    )


@cache
def _constants_of_peft() -> ast.Module:
    found = util.find_spec("peft")  # finding a top-level package imports nothing
    if found is None or found.origin is None:
        raise PeftLabError("PEFT is not installed, so its default targets cannot be read.")
    text = (Path(found.origin).parent / "utils" / "constants.py").read_text("utf-8")
    with _parsing:
        return ast.parse(text)
