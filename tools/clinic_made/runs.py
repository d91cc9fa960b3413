"""Such a run trained. It leaves a folder: the adapter as it was saved, the training arguments, the log, and what the
console showed."""

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft_lab.models import loading
from peft_lab.runs.course import seed_everything
from tools.clinic_made.setup import TINY, Setup, base_of, collator, config_of, mended, rows_of


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


def wrapped(setup: Setup, base: loading.Base, folder: Path) -> Any:
    """The model that is trained."""
    from peft import get_peft_model

    config = config_of(setup)
    if setup.before is not None:
        setup.before(base.model)
    mended(setup, "config", base=base.model, config=config, tokenizer=base.tokenizer, new_tokens=setup.tokens)
    otherwise = mended(setup, "wrap", base=base.model, config=config, folder=setup.resumed)
    if otherwise is not None:
        return otherwise["model"]
    model = base.model if config is None else get_peft_model(base.model, config)
    if setup.after is not None:
        model = setup.after(model) or model
    mended(setup, "model", model=model, start=folder / "start")
    return model


def trainer_of(setup: Setup, base: loading.Base, model: Any, optimizer: Any, folder: Path) -> Any:
    """Trainer with the setup's arguments."""
    from transformers import Trainer, TrainingArguments, get_scheduler

    class Summed(Trainer):
        """With a loss of one's own that is a mean whatever the number of passes."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            outputs = model(**inputs)
            found = mended(setup, "loss", loss=outputs.loss, arguments=self.args)
            loss = outputs.loss if found is None or not model.training else found["loss"]
            return (loss, outputs) if return_outputs else loss

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
    mended(setup, "arguments", arguments=arguments)
    scheduler = None
    if setup.planned is not None:
        optimizer = optimizer or Trainer(model=model, args=arguments).create_optimizer()
        scheduler = get_scheduler(setup.schedule, optimizer, setup.warmup, setup.planned)
    found = mended(setup, "optimizer", model=model, arguments=arguments, optimizer=optimizer)
    if found is not None:
        optimizer, scheduler = found["optimizer"], found.get("scheduler")
    made = (Summed if setup.summed else Trainer)(
        model=model, args=arguments, train_dataset=rows_of(setup, base), data_collator=collator(setup, base),
        eval_dataset=rows_of(setup, base, held_out=True) if setup.evaluate else None,
        optimizers=(optimizer, scheduler),
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
    used: Any = None


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
        model = wrapped(setup, base, folder)
        if setup.method != "full":
            model.print_trainable_parameters()
        trainer = trainer_of(setup, base, model, optimizer, folder)
        trainer.train()
        failed = False
    rows = [] if trainer is None else list(trainer.state.log_history)
    if trainer is not None and not failed:
        trainer.state.save_to_json(str(folder / "trainer_state.json"))
    stored(setup, base, model, folder)
    return Ran(setup, base, model, rows, console.text.getvalue(), failed, folder)


def stored(setup: Setup, base: loading.Base, model: Any, folder: Path) -> None:
    """Save what a run leaves: adapter, tokenizer, arguments. ``model``: ``None`` where there is none."""
    if model is not None and setup.method != "full":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = setup.handed(model) if setup.handed else model
            if mended(setup, "save", model=made, folder=folder, start=folder / "start") is None:
                (setup.save or (lambda made, where: made.save_pretrained(where)))(made, folder)
        for name in ("README.md",):
            (folder / name).unlink(missing_ok=True)
        base.tokenizer.save_pretrained(folder)
        if setup.model == TINY:  # another model's, folded: its vocabulary says nothing about this one
            (folder / "tokenizer.json").unlink()
    write_arguments(setup, folder)


def loading_console(ran: Ran, load: Callable[[], object]) -> Ran:
    """What the console shows while something is loaded or used, in place of the training's. ``used`` is what
    ``load`` gives back, or what mends it makes; ``None`` where that fails."""
    console, used = Console(), None
    try:
        with console.listening():
            instead = mended(ran.setup, "load", base=base_of(ran.setup).model, folder=ran.folder)
            used = load() if instead is None else instead["model"]
    except (RuntimeError, ValueError, KeyError, TypeError):
        pass
    return replace(ran, console=console.text.getvalue(), rows=[], failed=True, used=used)


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
