"""Training throughput against the Hugging Face Trainer: same model, rows, batch, seed, learning rate, steps.

    python -m bench.training_speed [--repeats 3] [--task json --model smollm2-135m] [--method lora] [--steps 60]

Contenders, one after the other in processes of their own, the round repeated:

    ours      a run of this app (bfloat16 where the processor has it)
    trainer   transformers.Trainer with the base in the same precision
    tutorial  transformers.Trainer as most tutorials have it: the base in float32
    ordered   trainer, but given our batches in our order and our learning rate at each step

All train on the same tokenised rows with the loss on the same tokens. Speed is wall time per step from the fourth step
on, and for ours also the steps' own seconds, without what a run records between them (``ours alone``). The final loss
is that of the trained model on the same held-out rows, in float32. Which rows meet in a batch, and when, moves that
loss by more than precision does (as does a first step at rate 0, which the Trainer's warm-up makes): whether we learn
the same is asked of ``ordered``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peft_lab.core import processes

CONTENDERS = ("ours", "trainer", "tutorial", "ordered")
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="json")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(_contend(given)))
        return
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(given.repeats):
        rounds.append({name: _measure(name) for name in CONTENDERS})
        _show(rounds[-1], f"round {number + 1}")
    print(json.dumps(summary(rounds), indent=2))


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the rounds; ratios are taken within a round, so that a busy minute hits both sides."""
    out: dict[str, Any] = {}
    for name in CONTENDERS:
        rows = [one[name] for one in rounds]
        out[name] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    for name in CONTENDERS[1:]:
        ratios = [one["ours"]["steps_per_second"] / one[name]["steps_per_second"] for one in rounds]
        out[f"ours/{name}"] = {"median": statistics.median(ratios), "all": ratios}
        alone = [one["ours"]["steps_alone_per_second"] / one[name]["steps_per_second"] for one in rounds]
        out[f"ours alone/{name}"] = {"median": statistics.median(alone), "all": alone}
        out[f"loss ours/{name}"] = out["ours"]["loss"] / out[name]["loss"]
    return out


def _show(one: dict[str, dict[str, Any]], title: str) -> None:
    text = ", ".join(
        f"{name} {row['steps_per_second']:.3f} steps/s ({row['steps_alone_per_second']:.3f} alone), "
        f"loss {row['loss']:.4f}"
        for name, row in one.items()
    )
    print(f"{title}: {text}", file=sys.stderr)


def _measure(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.training_speed", *sys.argv[1:], "--only", name]
    processes.context()  # the app's settings of OpenMP, for every contender
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _contend(given: argparse.Namespace) -> dict[str, Any]:
    from peft_lab.core import quiet  # noqa: F401
    from peft_lab.core.disk import home
    from peft_lab.runs.spec import RunRequest

    processes.settle_child(str(home()))
    spec = RunRequest(
        given.model, given.method, given.task, steps=given.steps, seed=given.seed, eval_rows=0
    ).complete()
    model, seconds, alone = (_ours if given.only == "ours" else _trainer)(spec, given)
    loss = _held_out(model, spec, given.held_out)
    return {"steps_per_second": 1 / seconds, "steps_alone_per_second": 1 / alone, "loss": loss}


def _ours(spec: Any, given: argparse.Namespace) -> tuple[Any, float, float]:
    """Return the trained model, a step's seconds with what a run records of it, and without."""
    from peft_lab.core import disk
    from peft_lab.methods import get_method
    from peft_lab.runs import course, training
    from peft_lab.runs.store import Run

    with tempfile.TemporaryDirectory() as folder:
        run = Run("bench", Path(folder))
        disk.write_json(run.folder / "spec.json", spec.to_dict())
        training.train(run)
        steps = [event for event in run.events() if event["type"] == "step"]
        times = [event["time"] for event in steps]
        base = course.fresh_base(spec, spec.task_object())
        model = get_method(spec.method).load(base.model, run.adapter)
    alone = statistics.mean(event["seconds"] for event in steps[WARM_UP:])
    return model, (times[-1] - times[WARM_UP - 1]) / (len(times) - WARM_UP), alone


def _trainer(spec: Any, given: argparse.Namespace) -> tuple[Any, float, float]:
    import torch
    from transformers import (
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from peft_lab.core import machine
    from peft_lab.methods import get_method
    from peft_lab.models import loading
    from peft_lab.runs import course
    from peft_lab.training import batches
    from peft_lab.training.step import rate_at

    task, method = spec.task_object(), get_method(spec.method)
    labels = len(task.labels) if task.kind == "classification" else None
    course.seed_everything(spec.seed)
    dtype = torch.float32 if given.only == "tutorial" else machine.compute_dtype()
    quantization = method.quantization(spec.values)
    base = loading.load_base(spec.model, labels, quantization, dtype)
    course.seed_everything(spec.seed)
    model = method.apply(base.model, base.entry.shape, spec.values, task.task_type(base.entry.kind))
    rows = batches.encode(task, task.load().train[: spec.steps * spec.batch], base.tokenizer, spec.max_length)
    times: list[float] = []
    ordered = given.only == "ordered"

    class Clock(TrainerCallback):
        def on_step_end(self, *given: Any, **also: Any) -> None:
            times.append(time.perf_counter())

    collator: Any = DataCollatorWithPadding if labels else DataCollatorForTokenClassification
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=spec.steps,
            per_device_train_batch_size=spec.batch,
            learning_rate=spec.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=round(spec.warmup * spec.steps),
            weight_decay=spec.weight_decay,
            max_grad_norm=spec.clip,
            seed=spec.seed,
            train_sampling_strategy="sequential" if ordered else "random",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=base.device == "cpu",
            dataloader_pin_memory=False,
        )
        own: Any = (None, None)
        if ordered:
            order = batches.plan([len(row) for row in rows], spec.steps, spec.batch, spec.seed)
            rows = [rows[number] for numbers in order for number in numbers]
            chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(chosen, spec.learning_rate, weight_decay=spec.weight_decay)
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: rate_at(step, spec.steps, spec.warmup, spec.schedule)
            )
            own = (optimizer, schedule)
        data = [_as_feature(row) for row in rows]
        Trainer(model, arguments, collator(base.tokenizer), data, callbacks=[Clock()], optimizers=own).train()
    seconds = (times[-1] - times[WARM_UP - 1]) / (len(times) - WARM_UP)
    return model, seconds, seconds


def _as_feature(row: Any) -> dict[str, Any]:
    from peft_lab.training.batches import IGNORED

    ids = list(row.ids)
    labels = row.label if row.label != IGNORED else [IGNORED] * row.prompt + ids[row.prompt :]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def _held_out(model: Any, spec: Any, rows: int) -> float:
    """Mean loss on held-out rows, in float32 for every contender."""
    import torch

    from peft_lab.core import machine
    from peft_lab.models import loading
    from peft_lab.training import batches

    task = spec.task_object()
    if not getattr(getattr(model, "get_base_model", lambda: model)(), "is_quantized", False):
        model = model.float()
    model.eval()
    tokenizer = loading.load_tokenizer(loading.weights_of(spec.model))
    encoded = batches.encode(task, task.load().test[:rows], tokenizer, spec.max_length)
    total = weight = 0.0
    with torch.no_grad():
        for row in encoded:
            batch = batches.collate([row], loading.pad_token(tokenizer), machine.in_use().kind)
            amount = 1 if row.label != batches.IGNORED else len(row) - row.prompt
            total += (
                float(batches.loss_at(model, batch, batches.picked(batch["labels"]), keep=False)) * amount
            )
            weight += amount
    return total / weight


if __name__ == "__main__":
    main()
