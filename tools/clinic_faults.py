"""Ways to spoil a run, one a fault: from a healthy setup and a source of chance, the run that went wrong.

What libraries do is done by them: names that do not exist are asked for, models are wrapped twice, loaded where they do
not fit. Only what no CPU does (a shard of ZeRO-3, a bitsandbytes base) is put in its place by hand, and said so.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.clinic_runs import ENCODER, TARGETS, TINY, Console, Ran, Setup, base_of, run

Spoil = Callable[[Setup, random.Random, Path], Ran]
SPOILS: dict[str, Spoil] = {}
#: Which model a fault needs; the others happen on both.
NEEDS = {"head-not-saved": ENCODER, "vocabulary-not-saved": ENCODER,
         "pad-is-eos": TINY, "prompt-not-masked": TINY, "all-masked": TINY,
         "accumulation-not-averaged": TINY, "checkpointing-no-grad": TINY, "right-padding": TINY,
         "tied-head-merged": TINY}  # fmt: skip


def spoil(fault: str) -> Callable[[Spoil], Spoil]:
    def register(function: Spoil) -> Spoil:
        SPOILS[fault] = function
        return function

    return register


def weights(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The saved tensors, to be changed."""
    from safetensors.torch import load_file

    file = folder / "adapter_model.safetensors"
    return file, load_file(file)


def store(file: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


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
    return run(replace(setup, warmup=setup.steps * chance.choice([100, 1000, 10000])), folder)


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

    first = run(setup, folder / "first")

    def reload(model: Any) -> Any:
        return PeftModel.from_pretrained(model.unload(), str(first.folder))

    return run(replace(setup, after=reload, told={"adapter_name_or_path": "out/first"}), folder)


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


@spoil("head-not-saved")
def head_not_saved(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    return run(replace(setup, config={"task_type": None}), folder)


@spoil("empty-adapter")
def empty(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    """What a shard leaves is written in place of the file: parameters of size 0, or none of them."""
    ran = run(setup, folder)
    file, tensors = weights(folder)
    store(file, {name: each.flatten()[:0] for name, each in tensors.items()} if chance.random() < 0.5 else {})
    return ran


@spoil("never-trained")
def never_trained(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import get_peft_model

    from tools.clinic_runs import config_of

    def save(model: Any, where: Path) -> None:
        get_peft_model(base_of(setup).model, config_of(setup)).save_pretrained(where)

    return run(replace(setup, save=save), folder)


@spoil("compiled-keys")
def compiled(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    import torch
    from peft import get_peft_model_state_dict

    def save(model: Any, where: Path) -> None:
        model.save_pretrained(where)
        compiled: Any = torch.compile(model)
        whole = compiled.state_dict()
        kept = get_peft_model_state_dict(model)
        names = {name for name in whole if name.removeprefix("_orig_mod.").replace(".default", "") in kept}
        store(
            where / "adapter_model.safetensors", {name.replace(".default", ""): whole[name] for name in names}
        )

    return run(replace(setup, save=save), folder)


@spoil("vocabulary-not-saved")
def vocabulary(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    ran = run(setup, folder)
    tokenizer = ran.base.tokenizer
    tokenizer.add_tokens([f"<new_{number}>" for number in range(chance.randrange(1, 20))])
    tokenizer.save_pretrained(folder)
    return ran


@spoil("base-changed")
def base_changed(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    return run(
        replace(setup, config={"init_lora_weights": chance.choice(["pissa", "pissa_niter_4", "olora"])}),
        folder,
    )


def loading_console(ran: Ran, load: Callable[[], object]) -> Ran:
    """What the console shows while something is loaded or used, in place of the training's."""
    console = Console()
    try:
        with console.listening():
            load()
    except (RuntimeError, ValueError, KeyError, TypeError):
        pass
    return replace(ran, console=console.text.getvalue(), rows=[], failed=True)


@spoil("wrong-base")
def wrong_base(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    """Half of them name another model in the config, half are loaded into a model of another width."""
    from peft import PeftModel
    from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

    ran = run(setup, folder)
    file = folder / "adapter_config.json"
    if chance.random() < 0.5 and setup.model == ENCODER:
        config = json.loads(file.read_text("utf-8"))
        config["base_model_name_or_path"] = chance.choice(["bert-base", "google-bert/bert-base-uncased"])
        file.write_text(json.dumps(config), "utf-8")
        return ran
    sizes: dict[str, Any] = {"hidden_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
    other = (
        BertForSequenceClassification(BertConfig(**sizes, intermediate_size=192))
        if setup.model == ENCODER
        else LlamaForCausalLM(
            LlamaConfig(**sizes, intermediate_size=192, num_key_value_heads=2, vocab_size=512)
        )
    )
    return loading_console(ran, lambda: PeftModel.from_pretrained(other, str(folder)))


@spoil("wrapped-twice")
def wrapped_twice(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import get_peft_model

    from tools.clinic_runs import config_of

    return run(replace(setup, after=lambda model: get_peft_model(model, config_of(setup))), folder)


@spoil("fresh-then-loaded")
def fresh_then_loaded(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import PeftModel, get_peft_model

    from tools.clinic_runs import config_of

    ran = run(setup, folder)
    fresh = get_peft_model(base_of(setup).model, config_of(setup))
    return loading_console(ran, lambda: PeftModel.from_pretrained(fresh, str(folder)))


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
    """The scaler is torch's own, for the CPU; Trainer asks for a GPU before it makes one."""
    import torch

    ran = run(replace(setup, steps=2, told={"fp16": True, "dtype": "float16"}), folder)

    def step() -> None:
        weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
        scaler = torch.amp.GradScaler("cpu")
        optimizer = torch.optim.SGD([weight], lr=0.1)
        scaler.scale((weight * weight).sum()).backward()
        scaler.unscale_(optimizer)

    return loading_console(ran, step)


@spoil("tied-head-merged")
def tied_head(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    ran = run(replace(setup, targets=("lm_head", *setup.targets)), folder)

    def merge() -> None:
        ran.model.merge_and_unload()

    merged = loading_console(ran, merge)
    return replace(merged, console=ran.console + merged.console)


@spoil("right-padding")
def right_padding(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    import torch

    ran = run(setup, folder)

    def write() -> None:
        ids = torch.tensor([[5, 6, 7, 8], [9, 10, 2, 2]])
        ran.model.generate(input_ids=ids, attention_mask=(ids != 2).long(), max_new_tokens=2, pad_token_id=2)

    with warnings.catch_warnings():
        return loading_console(ran, write)
