"""Ways to spoil a run, one a fault: what is saved of it, what it is loaded into, and how it is used afterwards.

What libraries do is done by them: a model is loaded where it does not fit. Only what no CPU does (a shard of ZeRO-3) is
put in its place by hand, and said so.
"""

from __future__ import annotations

import json
import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.clinic_made.runs import Ran, loading_console, run
from tools.clinic_made.setup import ENCODER, Setup, base_of, config_of
from tools.clinic_made.spoils import spoil


def weights(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The saved tensors, to be changed."""
    from safetensors.torch import load_file

    file = folder / "adapter_model.safetensors"
    return file, load_file(file)


def store(file: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


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


@spoil("fresh-then-loaded")
def fresh_then_loaded(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import PeftModel, get_peft_model

    ran = run(setup, folder)
    fresh = get_peft_model(base_of(setup).model, config_of(setup))
    return loading_console(ran, lambda: PeftModel.from_pretrained(fresh, str(folder)))


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
