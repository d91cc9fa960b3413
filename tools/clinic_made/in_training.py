"""Ways to spoil a run, one a fault: settings, targets, labels, and what is done to the model before it trains.

What libraries do is done by them: names that do not exist are asked for, models are wrapped twice. Only what no CPU
does (a bitsandbytes base, a scaler for fp16) is put in its place by hand, and said so.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.clinic_made.runs import Ran, loading_console, run, stored
from tools.clinic_made.setup import ENCODER, TARGETS, Setup, base_of, collator, config_of, mended, rows_of
from tools.clinic_made.spoils import spoil


@spoil("rate-too-high")
def rate_too_high(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    ceiling = {"full": 2e-2, "lora": 2e-1, "ia3": 1.0}[setup.method]
    return run(replace(setup, rate=ceiling * 10 ** chance.uniform(-0.3, 0.7)), folder)


@spoil("rate-too-low")
def rate_too_low(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    floor = {"full": 1e-7, "lora": 2e-6, "ia3": 2e-5}[setup.method]
    return run(replace(setup, rate=floor * 10 ** chance.uniform(-1, 0.3)), folder)


@spoil("rate-stays-zero")
def rate_stays_zero(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    """The schedule is planned for a few updates, or for none."""
    return run(replace(setup, planned=chance.choice([0, setup.steps // 10])), folder)


@spoil("warm-up-too-long")
def warm_up_too_long(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    return run(replace(setup, warmup=setup.steps * chance.choice([10, 100, 1000])), folder)


@spoil("fp16-weights")
def fp16_weights(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    def halve(model: Any) -> Any:
        return model.half()

    return run(
        replace(setup, dtype="float16", after=halve, optim="adamw_torch", told={"optim": "adamw_torch"}),
        folder,
    )


@spoil("checkpointing-no-grad")
def checkpointing(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    """Trainer of transformers 5 asks for input gradients; a hook that takes them back is the script that does not."""

    def without(model: Any) -> None:
        for each in (model, model.get_base_model()):
            each.enable_input_require_grads = lambda *_: None

    told = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    return run(replace(setup, after=without, told=told), folder)


@spoil("frozen-after-wrapping")
def frozen(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import prepare_model_for_kbit_training

    def prepare(model: Any) -> Any:
        return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)

    return run(replace(setup, after=prepare, told={"load_in_4bit": True}), folder)


@spoil("loaded-frozen")
def loaded_frozen(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import PeftModel

    first = run(replace(setup, mend={}), folder / "first")

    def reload(model: Any) -> Any:
        return PeftModel.from_pretrained(model.unload(), str(first.folder))

    told = {"adapter_name_or_path": "out/first"}
    return run(replace(setup, after=reload, resumed=first.folder, told=told), folder)


@spoil("optimizer-without-adapter")
def early_optimizer(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    return run(replace(setup, early_optimizer=True), folder)


@spoil("accumulation-not-averaged")
def summed(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    return run(replace(setup, summed=True, accumulate=chance.choice([4, 8]), batch=2, evaluate=True), folder)


@spoil("alpha-zero")
def alpha_zero(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    return run(replace(setup, config={"lora_alpha": 0}), folder)


def misspelt(name: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(name) - 1)
    return chance.choice([name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:], f"{name}s"])


@spoil("target-misspelt")
def no_target(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    return run(replace(setup, targets=tuple(misspelt(name, chance) for name in setup.targets)), folder)


@spoil("target-partly-misspelt")
def half_target(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    good = chance.sample(TARGETS[setup.model], 2)
    return run(replace(setup, targets=(good[0], misspelt(good[1], chance))), folder)


@spoil("pad-is-eos")
def pad_is_eos(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    told = {"data_collator": "DataCollatorForLanguageModeling"}
    return run(replace(setup, mask="padding", told=told), folder)


@spoil("prompt-not-masked")
def prompt_not_masked(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    told = chance.choice(
        [{"completion_only_loss": False}, {"train_on_inputs": True}, {"assistant_only_loss": False}]
    )
    return run(replace(setup, mask="everything", told=told), folder)


@spoil("all-masked")
def all_masked(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    return run(replace(setup, mask="nothing"), folder)


@spoil("wrapped-twice")
def wrapped_twice(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import get_peft_model

    return run(replace(setup, after=lambda model: get_peft_model(model, config_of(setup))), folder)


@spoil("dtype-mismatch")
def dtype_mismatch(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    def cast(model: Any) -> None:
        import torch

        for name, module in model.named_modules():
            if name.endswith(("classifier", "lm_head", "o_proj.base_layer", "down_proj")):
                module.to(torch.float32)
        if setup.model == ENCODER:
            model.base_model.model.bert.pooler.to(torch.float32)

    return run(replace(setup, dtype="bfloat16", after=cast), folder)


@spoil("fp16-unscale")
def fp16_unscale(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    """Trainer asks for a GPU before it makes a scaler: its loop is written out, with torch's own for the CPU."""
    import torch
    from peft import get_peft_model

    setup = replace(setup, dtype="float16", told={"fp16": True, "dtype": "float16"})
    base = base_of(setup)
    model: Any = get_peft_model(base.model, config_of(setup), autocast_adapter_dtype=False)
    mended(setup, "model", model=model)
    stored(setup, base, model, folder)
    rows, collate, log = rows_of(setup, base), collator(setup, base), list[dict[str, Any]]()

    def train() -> Any:
        model.print_trainable_parameters()
        scaler = torch.amp.GradScaler("cpu")
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=setup.rate)
        for step in range(setup.steps):
            with torch.autocast("cpu", torch.float16):
                loss = model(**collate(rows[step * setup.batch : (step + 1) * setup.batch])).loss
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            log.append({"step": step + 1, "loss": float(loss), "learning_rate": setup.rate})
        return model

    done = loading_console(Ran(setup, base, model, [], "", False, folder), train)
    return replace(done, rows=log, failed=done.used is None)
