"""Put a type on a model, after preparing what its start needs: sample data, gradients, adapters to mix.

Imports torch and peft inside; called from worker processes and tools.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.atlas.base import AtlasType
from peft_lab.atlas.forms import target_names
from peft_lab.methods.base import TaskType
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch

Batch = Mapping[str, "torch.Tensor"]
#: Types that need each row's task.
TASKED = ("POLY", "MULTITASK_PROMPT_TUNING")


def inputs_for(entry: AtlasType, batch: Batch) -> dict[str, Any]:
    """Return the batch with what this type also reads: each row's task, of shape (rows,), or each token's kind, of
    shape (rows, tokens)."""
    import torch

    made: dict[str, Any] = dict(batch)
    ids = batch["input_ids"]
    if entry.type in TASKED:
        made["task_ids"] = torch.zeros(len(ids), dtype=torch.long)
    if entry.type == "CPT":
        made["input_type_mask"] = torch.full_like(ids, 4)
    return made


def attach(
    model: Any, entry: AtlasType, shape: ModelShape, task: TaskType, batch: Batch, **changes: Any
) -> torch.nn.Module:
    """Return the adapted model. PEFT's exceptions pass through.

    Args:
        batch: rows with ``labels``, for starts that look at data.
        changes: settings that replace the declared ones.
    """
    from peft import PeftConfig, get_peft_model

    content = entry.config(shape, **changes)
    config: Any = PeftConfig.from_peft_type(task_type=task, **content)
    for name, quiet in (("progressbar", False), ("prompt_tuning_init", "RANDOM")):
        if hasattr(config, name) and entry.variant == "":
            setattr(config, name, quiet)
    start = start_of(entry)
    adapted: torch.nn.Module = (
        start(model, config, shape, batch) if start is not None else get_peft_model(model, config)
    )
    return adapted


def start_of(entry: AtlasType) -> Callable[[Any, Any, ModelShape, Batch], Any] | None:
    """Return the function that attaches a type which needs more than its config; ``None`` for other types."""
    return _STARTS.get(entry.name)


def _lora_ga(model: Any, config: Any, shape: ModelShape, batch: Batch) -> Any:
    from peft import get_peft_model
    from peft.tuners.lora import LoraGAConfig
    from peft.tuners.lora.loraga import preprocess_loraga

    def step() -> None:
        model(**batch).loss.backward()

    config.lora_ga_config = LoraGAConfig()
    preprocess_loraga(model, config, step)
    model.zero_grad(set_to_none=True)
    return get_peft_model(model, config)


def _corda(model: Any, config: Any, shape: ModelShape, batch: Batch) -> Any:
    import torch
    from peft import get_peft_model
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    @torch.no_grad()
    def run() -> None:  # its hooks take one row at a time
        for row in range(len(batch["input_ids"])):
            model(**{name: value[row : row + 1] for name, value in batch.items()})

    config.corda_config = CordaConfig()
    preprocess_corda(model, config, run_model=run)
    return get_peft_model(model, config)


def _eva(model: Any, config: Any, shape: ModelShape, batch: Batch) -> Any:
    from peft import get_peft_model, initialize_lora_eva_weights

    adapted = get_peft_model(model, config)
    # It leaves out tokens without a label, and takes any labels for labels of tokens.
    ids = batch["input_ids"]
    # Fewer tokens at a time than directions to find, and it would wait for ever: the same rows again add none.
    times = -(-2 * config.r // int(batch["attention_mask"].sum()))
    rows = {name: value.repeat(times, 1) for name, value in batch.items() if value.shape == ids.shape}
    initialize_lora_eva_weights(adapted, [rows] * 8, show_progress_bar=False)
    return adapted


def _trained_loras(model: Any, shape: ModelShape, task: Any, folder: str) -> list[str]:
    """Save two LoRA adapters with random values, as stand-ins for trained ones; return their paths."""
    import torch
    from peft import LoraConfig, get_peft_model

    paths = []
    for number in range(2):
        targets = list(target_names(shape, ("q", "v")))
        made: Any = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type=task))
        with torch.no_grad():
            for name, value in made.named_parameters():
                if "lora_B" in name:
                    value.normal_(std=0.02)
        path = str(Path(folder) / f"adapter_{number}")
        made.save_pretrained(path)
        model = made.unload()
        paths.append(path)
    return paths


def _xlora(model: Any, config: Any, shape: ModelShape, batch: Batch) -> Any:
    from peft import get_peft_model

    folder = tempfile.TemporaryDirectory()
    paths = _trained_loras(model, shape, None, folder.name)
    config.adapters = {str(at): path for at, path in enumerate(paths)}
    model.config.use_cache = False
    adapted: Any = get_peft_model(model, config)
    adapted.kept_folder = (
        folder  # its config names the adapters' paths, which are read again when it is loaded
    )
    return adapted


def _arrow(model: Any, config: Any, shape: ModelShape, batch: Batch) -> Any:
    from peft import ArrowConfig, create_arrow_model

    with tempfile.TemporaryDirectory() as folder:
        paths = _trained_loras(model, shape, config.task_type, folder)
        return create_arrow_model(model, paths, ArrowConfig(top_k=2))


def _trainable_tokens(model: Any, config: Any, shape: ModelShape, batch: Batch) -> Any:
    """The tokens that are trained are ones of the text: of others nothing would show."""
    from peft import get_peft_model

    config.token_indices = batch["input_ids"].unique().tolist()[: len(config.token_indices)]
    return get_peft_model(model, config)


def _alora(model: Any, config: Any, shape: ModelShape, batch: Batch) -> Any:
    """The tokens that call it stand in the text; where the usual ones do not, the first one calls it."""
    from peft import get_peft_model

    called, ids = config.alora_invocation_tokens, batch["input_ids"]
    if not bool((ids.unfold(1, len(called), 1) == ids.new_tensor(called)).all(-1).any()):
        config.alora_invocation_tokens = ids[0, :1].tolist()
    return get_peft_model(model, config)


_STARTS: dict[str, Callable[[Any, Any, ModelShape, Batch], Any]] = {
    "lora_ga": _lora_ga,
    "corda": _corda,
    "eva": _eva,
    "xlora": _xlora,
    "arrow": _arrow,
    "trainable_tokens": _trainable_tokens,
    "alora": _alora,
}
