"""Short real fine-tunes with the plain libraries, as a script of one's own would make them, and ways to spoil them.

``tools.make_clinic`` makes the cases of the Debug clinic page of them, ``bench.clinic`` mutants and healthy runs. A run
leaves a folder: the adapter as it was saved, the training arguments, the log, and what the console showed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import math
import traceback
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.models import loading
from peft_lab.models.catalogue import resolve
from peft_lab.runs.course import seed_everything
from peft_lab.tasks import get_task
from peft_lab.training import batches
from peft_lab.training.batches import IGNORED, Encoded

ENCODER, WRITER = "minilm-l6", "smollm2-135m"
#: A Llama of two layers, trained for a moment on the same rows: quick enough for hundreds of runs. It reads SmolLM2's
#: tokens, folded into a small vocabulary.
TINY, VOCABULARY = "tiny-llama", 512
TARGETS = {
    ENCODER: ("query", "key", "value", "attention.output.dense", "intermediate.dense"),
    WRITER: ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    TINY: ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
IA3 = {ENCODER: (["key", "value", "intermediate.dense"], ["intermediate.dense"]),
       WRITER: (["k_proj", "v_proj", "down_proj"], ["down_proj"]),
       TINY: (["k_proj", "v_proj", "down_proj"], ["down_proj"])}  # fmt: skip


@dataclass
class Setup:
    """A run as it was meant, and what is done to it.

    Attributes:
        method: full, lora, adalora, ia3, prefix or prompt. rate: peak learning rate. accumulate: passes of a step.
        mask: which labels are kept: "answer", "everything" (the prompt, too), "padding" (all but the pad token, by its
            id), "nothing".
        config: fields of the adapter's config that are set otherwise. told: training arguments that are written down.
        before: told the model before it is wrapped, after: the wrapped one; save: in place of ``save_pretrained``.
        trainer: attributes for Trainer's subclass.
    """

    model: str = ENCODER
    method: str = "lora"
    task: str = "sentiment"
    rate: float = 1e-3
    steps: int = 30
    batch: int = 8
    accumulate: int = 1
    seed: int = 0
    rank: int = 8
    targets: tuple[str, ...] = ("query", "value")
    dtype: str = "float32"
    layers: int = 0
    schedule: str = "linear"
    warmup: int = 0
    mask: str = "answer"
    evaluate: bool = False
    dropout: float = 0.0
    summed: bool = False
    early_optimizer: bool = False
    optim: str = "adamw_torch_fused"
    config: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    before: Callable[[Any], None] | None = None
    after: Callable[[Any], Any] | None = None
    save: Callable[[Any, Path], None] | None = None

    @property
    def kind(self) -> str:
        return "classification" if self.model == ENCODER else "generation"


class Console:
    """Everything a terminal would show: prints, warnings, logs, a traceback's last line."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        handler = logging.StreamHandler(self.text)
        loggers = [logging.getLogger(name) for name in ("transformers", "peft", "accelerate")]
        levels = [each.level for each in loggers]
        with warnings.catch_warnings(), contextlib.redirect_stdout(self.text):
            warnings.simplefilter("always")
            warnings.showwarning = self._warn  # type: ignore[assignment]
            for each in loggers:
                each.addHandler(handler)
                each.setLevel(logging.WARNING)
            try:
                yield
            except (ValueError, RuntimeError, KeyError, TypeError) as error:
                self.text.write("".join(traceback.format_exception_only(error)))
                raise
            finally:
                for each, level in zip(loggers, levels, strict=True):
                    each.removeHandler(handler)
                    each.setLevel(level)

    def _warn(
        self, message: Warning | str, category: type[Warning], filename: str, line: int, *rest: Any
    ) -> None:
        if not issubclass(category, DeprecationWarning | FutureWarning):
            self.text.write(f"{Path(filename).name}:{line}: {category.__name__}: {message}\n")


def base_of(setup: Setup) -> loading.Base:
    """A fresh base, its random head included."""
    import torch

    seed_everything(setup.seed)
    if setup.model == TINY:
        return tiny(setup.dtype)
    labels = 2 if setup.kind == "classification" else None
    base = loading.load_base(setup.model, labels, dtype=getattr(torch, setup.dtype), attention="eager")
    model: Any = base.model
    model.config.name_or_path = model.name_or_path = setup.model
    model.config.use_cache = False
    if setup.layers:  # the first layers of the real model: enough to learn from, and quick
        model.bert.encoder.layer = model.bert.encoder.layer[: setup.layers]
        model.config.num_hidden_layers = setup.layers
    return base


def tiny(dtype: str) -> loading.Base:
    """The small writer, ready to be fine-tuned."""
    import torch
    from transformers import LlamaForCausalLM

    writer = resolve(WRITER)
    model = LlamaForCausalLM(_tiny_config())
    model.load_state_dict(_tiny_weights())
    model.to(getattr(torch, dtype))
    model.config.name_or_path = model.name_or_path = TINY
    return loading.Base(model, deepcopy(_writers_tokenizer()), writer, model.dtype, "cpu")


@cache
def _writers_tokenizer() -> Any:
    return loading.load_tokenizer(loading.weights_of(WRITER))


@cache
def _splits(task: str) -> Any:
    return get_task(task).load()


def _tiny_config() -> Any:
    from transformers import LlamaConfig

    made: Any = LlamaConfig
    return made(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, attn_implementation="eager", use_cache=False,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip


@cache
def _tiny_weights() -> dict[str, Any]:
    """Of the same model after 150 steps of full training on rows of another task."""
    import torch
    from transformers import LlamaForCausalLM

    seed_everything(0)
    model = LlamaForCausalLM(_tiny_config())
    setup = Setup(model=TINY, task="style", mask="everything", steps=150, batch=4)
    base = loading.Base(model, _writers_tokenizer(), resolve(WRITER), model.dtype, "cpu")
    rows, collate = rows_of(setup, base), collator(setup, base)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(setup.steps):
        optimizer.zero_grad()
        picked = [rows[(step * setup.batch + number) % len(rows)] for number in range(setup.batch)]
        model(**collate(picked)).loss.backward()
        optimizer.step()
    return dict(model.state_dict())


def config_of(setup: Setup) -> Any:
    """The adapter's config; ``None`` for full fine-tuning."""
    import peft

    given: dict[str, Any] = {"task_type": "SEQ_CLS" if setup.kind == "classification" else "CAUSAL_LM"}
    if setup.method in ("lora", "adalora"):
        given |= {
            "target_modules": list(setup.targets),
            "lora_alpha": 2 * setup.rank,
            "lora_dropout": setup.dropout,
        }
    if setup.method == "lora":
        return peft.LoraConfig(**{**given, "r": setup.rank, **setup.config})
    if setup.method == "adalora":
        steps = {"tinit": 2, "tfinal": 5, "deltaT": 2, "total_step": setup.steps}
        ranks = {"init_r": setup.rank, "target_r": max(1, setup.rank // 2)}
        return peft.AdaLoraConfig(**{**given, **steps, **ranks, **setup.config})
    if setup.method == "ia3":
        targets, forward = IA3[setup.model]
        return peft.IA3Config(
            **{**given, "target_modules": targets, "feedforward_modules": forward, **setup.config}
        )
    if setup.method == "prefix":
        return peft.PrefixTuningConfig(**{**given, "num_virtual_tokens": 10, **setup.config})
    if setup.method == "prompt":
        return peft.PromptTuningConfig(**{**given, "num_virtual_tokens": 10, **setup.config})
    return None


def rows_of(setup: Setup, base: loading.Base, held_out: bool = False) -> list[dict[str, Any]]:
    """Encoded rows with their labels, masked as the setup has it."""
    task = get_task(setup.task)
    split = _splits(setup.task)
    wanted = split.test[:16] if held_out else split.train[: setup.steps * setup.batch * setup.accumulate]
    length = 32 if setup.kind == "classification" else min(96, task.max_length)
    encoded = batches.encode(task, wanted, base.tokenizer, length)
    if setup.model == TINY:
        encoded = [
            replace(row, ids=tuple(fold(each, base.tokenizer.eos_token_id) for each in row.ids))
            for row in encoded
        ]
    return [{"row": row} for row in encoded]


def fold(token: int, end: int | None) -> int:
    """A token of SmolLM2's in the small vocabulary; its end token is 2."""
    return 2 if token == end else 3 + token % (VOCABULARY - 3)


def collator(setup: Setup, base: loading.Base) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Rows as a padded batch."""
    import torch

    pad = loading.pad_token(base.tokenizer)
    pad = fold(pad, pad) if setup.model == TINY else pad

    def collate(given: list[dict[str, Any]]) -> dict[str, Any]:
        rows: list[Encoded] = [each["row"] for each in given]
        longest = max(map(len, rows))
        ids = torch.tensor([[*row.ids, *[pad] * (longest - len(row))] for row in rows])
        attention = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        if setup.kind == "classification":
            return {
                "input_ids": ids,
                "attention_mask": attention,
                "labels": torch.tensor([row.label for row in rows]),
            }
        labels = ids.clone()
        labels[attention == 0] = IGNORED
        if setup.mask != "everything":
            for number, row in enumerate(rows):
                labels[number, : row.prompt] = IGNORED
        if setup.mask == "padding":
            labels[labels == pad] = IGNORED
        if setup.mask == "nothing":
            labels[:] = IGNORED
        return {"input_ids": ids, "attention_mask": attention, "labels": labels}

    return collate


def wrapped(setup: Setup, base: loading.Base) -> Any:
    """The model that is trained."""
    from peft import get_peft_model

    config = config_of(setup)
    if setup.before is not None:
        setup.before(base.model)
    model = base.model if config is None else get_peft_model(base.model, config)
    if setup.after is not None:
        model = setup.after(model) or model
    return model


def trainer_of(setup: Setup, base: loading.Base, model: Any, optimizer: Any, folder: Path) -> Any:
    """Trainer with the setup's arguments."""
    from transformers import Trainer, TrainingArguments

    class Summed(Trainer):
        """With a loss of one's own that is a mean whatever the number of passes."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss

    passed = {name: setup.told[name] for name in ("gradient_checkpointing", "gradient_checkpointing_kwargs")
              if name in setup.told}  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(folder / "out"), use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        logging_steps=1, max_steps=setup.steps, per_device_train_batch_size=setup.batch,
        gradient_accumulation_steps=setup.accumulate, learning_rate=setup.rate, lr_scheduler_type=setup.schedule,
        warmup_steps=setup.warmup, seed=setup.seed, remove_unused_columns=False, weight_decay=0.0,
        eval_strategy="steps" if setup.evaluate else "no", eval_steps=setup.steps, prediction_loss_only=True,
        optim=setup.optim, **passed,
    )  # fmt: skip
    made = (Summed if setup.summed else Trainer)(
        model=model, args=arguments, train_dataset=rows_of(setup, base), data_collator=collator(setup, base),
        eval_dataset=rows_of(setup, base, held_out=True) if setup.evaluate else None,
        optimizers=(optimizer, None),
    )  # fmt: skip
    if setup.summed:
        made.model_accepts_loss_kwargs = True
    return made


@dataclass
class Ran:
    """What a run left: its model (``None`` where it did not get so far), the logged rows, the console's text."""

    setup: Setup
    base: loading.Base
    model: Any
    rows: list[dict[str, Any]]
    console: str
    failed: bool
    folder: Path


def run(setup: Setup, folder: Path) -> Ran:
    """Train and save into ``folder``. An error of the libraries' is part of the result."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    base = base_of(setup)
    console, trainer, model, failed = Console(), None, None, False
    with contextlib.suppress(ValueError, RuntimeError, KeyError, TypeError), console.listening():
        failed = True
        optimizer = (
            torch.optim.AdamW([p for p in base.model.parameters() if p.requires_grad], lr=setup.rate)
            if setup.early_optimizer
            else None
        )
        seed_everything(setup.seed)
        model = wrapped(setup, base)
        if setup.method != "full":
            model.print_trainable_parameters()
        trainer = trainer_of(setup, base, model, optimizer, folder)
        trainer.train()
        failed = False
    rows = [] if trainer is None else list(trainer.state.log_history)
    if trainer is not None and not failed:
        trainer.state.save_to_json(str(folder / "trainer_state.json"))
    if model is not None and setup.method != "full":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (setup.save or (lambda made, where: made.save_pretrained(where)))(model, folder)
        for name in ("README.md",):
            (folder / name).unlink(missing_ok=True)
        base.tokenizer.save_pretrained(folder)
        if setup.model == TINY:  # another model's, folded: its vocabulary says nothing about this one
            (folder / "tokenizer.json").unlink()
    write_arguments(setup, folder)
    return Ran(setup, base, model, rows, console.text.getvalue(), failed, folder)


def write_arguments(setup: Setup, folder: Path) -> None:
    """The training arguments as scripts keep them."""
    told = {
        "learning_rate": setup.rate, "max_steps": setup.steps, "per_device_train_batch_size": setup.batch,
        "gradient_accumulation_steps": setup.accumulate, "lr_scheduler_type": setup.schedule,
        "warmup_steps": setup.warmup, "seed": setup.seed, "finetuning_type": setup.method, "dtype": setup.dtype,
        **setup.told,
    }  # fmt: skip
    (folder / "arguments.json").write_text(json.dumps(told, indent=1), "utf-8")


def write_log(ran: Ran, kind: str) -> Path:
    """The log in one of the formats: ``state``, ``jsonl``, ``csv`` or ``console``."""
    folder, rows = ran.folder, [row for row in ran.rows if "loss" in row or "eval_loss" in row]
    if kind == "state" and (folder / "trainer_state.json").exists():
        return folder / "trainer_state.json"
    if kind == "csv" and rows:
        names = ("step", "loss", "grad_norm", "learning_rate", "eval_loss")
        with (folder / "log.csv").open("w", newline="", encoding="utf-8") as out:
            table = csv.DictWriter(out, names, extrasaction="ignore")
            table.writeheader()
            table.writerows(rows)
        return folder / "log.csv"
    if kind == "jsonl" and rows:
        (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
        return folder / "log.jsonl"
    (folder / "console.log").write_text(ran.console, "utf-8")
    return folder / "console.log"


def finite(value: Any) -> Any:
    """A figure for JSON: four significant digits, ``"nan"`` in place of none."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)
