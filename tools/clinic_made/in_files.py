"""Ways to spoil a run, one a fault: what is saved of it, what it is loaded into, and how it is used afterwards.

What libraries do is done by them: a model is loaded where it does not fit. Only what no CPU does (a shard of ZeRO-3) is
put in its place by hand, and said so.
"""

from __future__ import annotations

import json
import random
import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft_lab.models.quantise import settle
from tools.clinic_made.runs import Ran, loading_console, run
from tools.clinic_made.setup import ENCODER, Setup, base_of, config_of, fold, mended
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

    def save(compiled: Any, where: Path) -> None:
        model = compiled._orig_mod
        model.save_pretrained(where)
        whole = compiled.state_dict()
        kept = get_peft_model_state_dict(model)
        names = {name for name in whole if name.removeprefix("_orig_mod.").replace(".default", "") in kept}
        store(
            where / "adapter_model.safetensors", {name.replace(".default", ""): whole[name] for name in names}
        )

    return run(replace(setup, handed=torch.compile, save=save), folder)


@spoil("vocabulary-not-saved")
def vocabulary(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    new = tuple(f"<new_{number}>" for number in range(chance.randrange(1, 20)))

    def grow(model: Any) -> None:
        model.resize_token_embeddings(model.config.vocab_size + len(new))

    return run(replace(setup, tokens=new, before=grow), folder)


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


@spoil("merged-into-4-bit")
def merged_into_4_bit(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    named = folder / "base"
    published: Any = base_of(setup).model
    published.save_pretrained(named)
    ran = run(replace(setup, named=str(named)), folder)

    def merge() -> Any:
        base = AutoModelForCausalLM.from_pretrained(
            named, quantization_config=BitsAndBytesConfig(load_in_4bit=True)
        )
        settle(base)
        return PeftModel.from_pretrained(base, str(folder)).merge_and_unload()

    return loading_console(ran, merge)


@spoil("fresh-then-loaded")
def fresh_then_loaded(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    from peft import PeftModel, get_peft_model

    ran = run(setup, folder)
    fresh = get_peft_model(base_of(setup).model, config_of(setup))
    return loading_console(ran, lambda: PeftModel.from_pretrained(fresh, str(folder)))


@spoil("tied-head-merged")
def tied_head(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    ran = run(replace(setup, targets=("lm_head", *setup.targets)), folder)

    def merge() -> Any:
        return deepcopy(ran.model).merge_and_unload()

    merged = loading_console(ran, merge)
    return replace(merged, console=ran.console + merged.console)


@spoil("right-padding")
def right_padding(setup: Setup, chance: random.Random, folder: Path) -> Ran:
    """``used``: the logits with which generate begins, of a short prompt alone and in a batch with a longer one."""
    ran = run(setup, folder)
    tokenizer: Any = ran.base.tokenizer
    tokenizer.padding_side = "right"
    mended(setup, "use", model=ran.model, tokenizer=tokenizer)

    def write(texts: list[str]) -> Any:
        rows: Any = tokenizer(texts, padding=True, return_tensors="pt")
        ids, mask = rows["input_ids"], rows["attention_mask"]
        ids = ids.clone().apply_(lambda token: fold(token, tokenizer.eos_token_id))
        ids[mask == 0] = 2
        written = ran.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=2, pad_token_id=2, do_sample=False,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        return written.logits[0][0]

    def both() -> Any:
        short, long = "At 8 pm", "At 8 pm Walter will pick up 3 large cakes."
        return write([short]), write([short, long])

    with warnings.catch_warnings():
        return loading_console(ran, both)
