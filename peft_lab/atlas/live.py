"""Train a type briefly on a live model, to see whether and at which rate the loss falls; write the same as a script.

A few rows are learned by heart. That says whether a type trains here at all, not how good it is.
Torch is imported inside.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_lab.atlas import get_entry, rows
from peft_lab.atlas.base import AtlasType, target_names
from peft_lab.core.errors import Unsupported
from peft_lab.core.later import torch
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import REFUSALS, get_model, reason
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import HEADS, ModelShape
from peft_lab.takeaway.bundle import asset_context
from peft_lab.takeaway.generator import as_script, fill
from peft_lab.training.tasks import get_task

Batch = Mapping[str, "torch.Tensor"]
#: Types that need each row's task.
TASKED = ("POLY", "MULTITASK_PROMPT_TUNING")


def inputs_for(entry: AtlasType, batch: Batch) -> dict[str, Any]:
    """Return the batch with what this type also reads: each row's task, of shape (rows,), or each token's kind, of
    shape (rows, tokens)."""
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
    start = _STARTS.get(entry.name)
    adapted: torch.nn.Module = start(model, config, shape, batch) if start else get_peft_model(model, config)
    return adapted


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
    # PEFT's initialisation leaves out tokens without a label, and takes any labels for labels of tokens.
    ids = batch["input_ids"]
    # With fewer tokens per batch than directions to find it would never end, so the rows are repeated in each batch.
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
    """Return the model with trainable embeddings of tokens in the text: others would show nothing."""
    from peft import get_peft_model

    config.token_indices = batch["input_ids"].unique().tolist()[: len(config.token_indices)]
    return get_peft_model(model, config)


def _alora(model: Any, config: Any, shape: ModelShape, batch: Batch) -> Any:
    """Return the model with aLoRA, invoked by its usual tokens or, without them, by the text's first one."""
    from peft import get_peft_model

    called, ids = config.alora_invocation_tokens, batch["input_ids"]
    if not bool((ids.unfold(1, len(called), 1) == ids.new_tensor(called)).all(-1).any()):
        config.alora_invocation_tokens = ids[0, :1].tolist()
    return get_peft_model(model, config)


#: What attaches a type that needs more than its config.
_STARTS: dict[str, Callable[[Any, Any, ModelShape, Batch], Any]] = {
    "lora_ga": _lora_ga,
    "corda": _corda,
    "eva": _eva,
    "xlora": _xlora,
    "arrow": _arrow,
    "trainable_tokens": _trainable_tokens,
    "alora": _alora,
}


STEPS = 20
#: Steps of the run that a page offers, and the seconds after which it begins no more than :data:`STEPS`.
SHOWN, PATIENCE = 60, 60.0
#: Rows and tokens a row, by kind: the decoder is the larger model.
SIZES = {"causal": (1, 12), "encoder": (2, 16)}
#: The task that the rows are from, by kind.
TASKS = {"causal": "json", "encoder": "sentiment"}
#: Live models by kind.
LIVE = {"causal": "smollm2-135m", "encoder": "minilm-l6"}
#: Seed of a type's initial values.
SEED = 1
#: A loss that falls by less than this share counts as not falling.
LEAST = 0.001


@dataclass(frozen=True)
class ShortRun:
    """Losses of the same rows, in nats: before, in the steps, and after."""

    rate: float
    before: float
    steps: tuple[float, ...]
    after: float

    @property
    def fell(self) -> bool:
        return self.after < self.before * (1 - LEAST)


def rows_for(name: str, layers: int | None = None) -> tuple[Any, Batch]:
    """Return a live model in float32, so that small changes show, and the batch to learn: ids and mask (rows, tokens)
    and labels. ``layers``: keep only that many layers, from the first."""
    from peft_lab.models.loading import load_base

    labels = 2 if name == LIVE["encoder"] else None
    many, longest = SIZES["encoder" if labels else "causal"]
    torch.manual_seed(0)
    base = load_base(name, num_labels=labels, dtype=torch.float32)
    if layers is not None:
        stack: Any = base.model
        stack.model.layers = stack.model.layers[:layers]
        stack.config.num_hidden_layers = layers
    tokenizer: Any = base.tokenizer
    task = get_task(TASKS["encoder" if labels else "causal"])
    rows = task.load().train[:many]
    texts = [row.text if labels else f"{row.text}{row.target}" for row in rows]
    made = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=longest)
    batch = {"input_ids": made["input_ids"], "attention_mask": made["attention_mask"]}
    if labels:
        batch["labels"] = torch.tensor([task.labels.index(row.target) for row in rows])
    else:
        batch["labels"] = made["input_ids"].masked_fill(made["attention_mask"] == 0, -100)
    return base, batch


# Written scripts hold this function as its source.
def learn(
    model: Any,
    inputs: dict[str, Any],
    rate: float,
    steps: int,
    least: int = 0,
    seconds: float = math.inf,
    tell: Any = lambda step, loss: None,
) -> tuple[float, list[float], float]:
    """Train with Adam on the same rows; return the loss before, at each step and after. After ``seconds``,
    only the first ``least`` of the ``steps`` still begin. ``tell`` is called after each step."""
    import torch

    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate)
    until = time.monotonic() + seconds
    model.eval()
    with torch.no_grad():
        before = float(model(**inputs).loss)
    model.train()
    seen: list[float] = []
    while len(seen) < steps and (len(seen) < least or time.monotonic() < until):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
        tell(len(seen), seen[-1])
    model.eval()
    with torch.no_grad():
        after = float(model(**inputs).loss)
    return before, seen, after


def short_run(
    model: Any,
    entry: AtlasType,
    shape: ModelShape,
    task: TaskType,
    batch: Batch,
    rate: float,
    steps: int,
    seconds: float = math.inf,
) -> ShortRun:
    """Put the type on the model and train it on the rows. A task head is frozen, so that a falling loss is due to the
    type. Once ``seconds`` have passed, no step beyond :data:`STEPS` begins."""
    torch.manual_seed(SEED)
    adapted: Any = attach(model, entry, shape, task, batch)
    for name, value in adapted.named_parameters():
        if any(f".{head}." in name for head in HEADS):
            value.requires_grad_(False)
    before, seen, after = learn(adapted, inputs_for(entry, batch), rate, steps, STEPS, seconds)
    return ShortRun(rate, before, tuple(seen), after)


def train_live(
    name: str,
    kind: str,
    steps: int = STEPS,
    rates: tuple[float, ...] = (),
    start: Any = None,
    seconds: float = math.inf,
) -> ShortRun:
    """Train a type briefly on a live model; of several rates, at the first at which the loss falls, else the last.
    ``start``: a result of :func:`rows_for`, to reuse it; the model is copied."""
    entry = get_entry(name)
    base, batch = start or rows_for(LIVE[kind])
    task: TaskType = "SEQ_CLS" if kind == "encoder" else "CAUSAL_LM"
    run = None
    for rate in rates or (entry.rate, entry.rate * 10, entry.rate / 10):
        run = short_run(copy.deepcopy(base.model), entry, base.entry.shape, task, batch, rate, steps, seconds)
        if run.fell:
            break
    assert run is not None
    return run


def try_live(name: str, kind: str, steps: int, rates: tuple[float, ...]) -> ShortRun:
    """Call :func:`train_live` for a page: a type whose steps are slow makes fewer, but at least :data:`STEPS`. Raises
    Unsupported: PEFT cannot train it there, with PEFT's reason."""
    try:
        return train_live(name, kind, steps, tuple(rates), seconds=PATIENCE)
    except REFUSALS as error:
        raise Unsupported(f"PEFT cannot train this here: {reason(error)}") from error


KIND = "causal"
#: Types that mix adapters which must be trained first.
MIXING = ("xlora", "arrow")


def script_refusal(entry: AtlasType) -> str:
    """Return why there is no script, as a sentence; empty if there is one."""
    if entry.name in MIXING:
        return (
            f"There is no script: {entry.title} mixes trained adapters, but those mixed here are untrained."
        )
    return ""


def script(entry: AtlasType) -> str:
    """Return the file, which prints the losses of the run on the live decoder. Raises Unsupported with the reason
    of :func:`script_refusal`, BadInput if the decoder has none of the matrices that the type adapts."""
    reason = script_refusal(entry)
    if reason:
        raise Unsupported(reason, "type")
    model, row = get_model(LIVE[KIND]), get_task(TASKS[KIND]).load().train[0]
    versions = {name: number.partition("+")[0] for name, number in rows.probed_versions().items()}
    text = fill(
        "atlas.py.j2",
        entry=entry,
        title=model.title,
        config=entry.config(model.shape),
        start=_STARTS.get(entry.name),
        learn=learn,
        tasked=entry.type in TASKED,
        text=f"{row.text}{row.target}",
        longest=SIZES[KIND][1],
        steps=SHOWN,
        seed=SEED,
        requirements=[f"{name}=={versions[name]}" for name in ("torch", "transformers", "peft")],
        **asset_context(ASSETS[LIVE[KIND]]),
    )
    return as_script(text)
