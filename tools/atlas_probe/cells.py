"""One function a capability: it returns, or raises :class:`No` with the reason. PEFT's own refusals are reasons too."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft_lab.atlas import get_entry
from peft_lab.atlas.base import AtlasType
from tools.atlas_probe import tiny
from tools.atlas_probe.held import EQUAL, Held, No, apart, hold, move, want_equal
from tools.atlas_probe.pair import Lost, with_ddp
from tools.atlas_probe.training import trains_causal, trains_encoder, trains_seq2seq

SAME = 1e-3  # logits of float32
CLOSE = 5e-2  # the same after a merge in bfloat16
NO_MODULES = "It adapts no modules by name: its config has no target_modules to point elsewhere."
WHOLE = {
    "ADAPTION_PROMPT": "Its target_modules name whole attention modules, not maps in them.",
    "SHADOW": "Its target_modules name whole blocks, not maps in them.",
}


def _named(entry: AtlasType) -> dict[str, Any]:
    """What besides ``target_modules`` has to change when another module is named. Raises No where none can be."""
    from dataclasses import fields

    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    config: Any = PEFT_TYPE_TO_CONFIG_MAPPING[entry.type]  # type: ignore[index]
    if "target_modules" not in {each.name for each in fields(config)} or entry.type == "XLORA":
        raise No(NO_MODULES)
    if entry.type in WHOLE:
        raise No(WHOLE[entry.type])
    return {"feedforward_modules": []} if entry.type == "IA3" else {}


def attaches(entry: AtlasType) -> dict[str, float]:
    held = hold(entry, moved=False)
    held.logits()
    trained = sum(value.numel() for value in held.model.parameters() if value.requires_grad)
    if not trained:
        raise No("It attaches, and nothing is trained.")
    return {"trainable": trained}


def equal_at_start(entry: AtlasType) -> dict[str, float]:
    held = hold(entry, moved=False)
    return {"off": want_equal(held.logits(), held.base, "Before any training the outputs are not the base's")}


def gradients(entry: AtlasType) -> dict[str, float]:
    held = hold(entry, moved=False)
    held.model.train()
    held.model(**held.inputs).loss.backward()
    trained = [value for value in held.model.parameters() if value.requires_grad]
    reached = [value for value in trained if value.grad is not None and bool(value.grad.abs().max() > 0)]
    if not reached:
        raise No("No trained parameter gets a gradient in the first step.")
    return {"reached": len(reached), "of": len(trained)}


def saves(entry: AtlasType) -> dict[str, float]:
    from peft import PeftModel

    held = hold(entry)
    wanted = held.logits()
    with tempfile.TemporaryDirectory() as folder:
        held.model.save_pretrained(folder)
        if not (Path(folder) / "adapter_config.json").exists():
            raise No(
                "save_pretrained writes the adapters that are mixed, each into its folder, and nothing else."
            )
        fresh, _ = tiny.build("llama")
        fresh.config.use_cache = held.model.config.use_cache
        held.model = PeftModel.from_pretrained(fresh, folder).eval()
    return {"off": want_equal(held.logits(), wanted, "Loaded onto a fresh base it is another adapter")}


def _merged(entry: AtlasType, kind: str) -> tuple[Held, Any]:
    """The model with the type folded into it, and the logits from before."""
    held = hold(entry, dtype=kind)
    wanted = held.logits()
    if apart(wanted, held.base) < 1e-6:
        raise No("Moving its trained parameters changes no output, so there is nothing to merge.")
    held.model = held.model.merge_and_unload()
    return held, wanted


def _merge(entry: AtlasType, kind: str, limit: float) -> dict[str, float]:
    held, wanted = _merged(entry, kind)
    off = want_equal(held.logits(), wanted, f"After merging in {kind} the outputs differ", limit)
    return {"off": off}


def merges(entry: AtlasType) -> dict[str, float]:
    return _merge(entry, "float32", EQUAL)


def merges_bf16(entry: AtlasType) -> dict[str, float]:
    return _merge(entry, "bfloat16", CLOSE)


def unmerges(entry: AtlasType) -> dict[str, float]:
    held = hold(entry)
    wanted = held.logits()
    held.model.merge_adapter()
    held.model.unmerge_adapter()
    return {"off": want_equal(held.logits(), wanted, "After merging and unmerging the outputs differ")}


def disables(entry: AtlasType) -> dict[str, float]:
    held = hold(entry)
    with held.model.disable_adapter():
        return {
            "off": want_equal(
                held.logits(), held.base, "With the adapter disabled the outputs are not the base's"
            )
        }


def _second(held: Held) -> None:
    """A second adapter of the same settings beside the first, moved elsewhere."""
    import copy

    config = copy.deepcopy(held.model.peft_config[held.model.active_adapter])
    config.inference_mode = held.entry.type == "ADALORA"  # trains one at a time
    held.model.add_adapter("second", config)
    held.model.set_adapter("second")
    move(held.model, seed=9, only="second")


def several(entry: AtlasType) -> dict[str, float]:
    held = hold(entry)
    first, name = held.logits(), held.model.active_adapter
    _second(held)
    if apart(held.logits(), first) < 1e-6:
        raise No("The second adapter answers as the first does.")
    held.model.set_adapter(name)
    return {
        "off": want_equal(
            held.logits(), first, "Back on the first adapter the outputs are not what they were"
        )
    }


def mixed_batch(entry: AtlasType) -> dict[str, float]:
    import torch

    held = hold(entry)
    first, name = held.logits(), held.model.active_adapter
    _second(held)
    second = held.logits()
    mixed = held.logits(adapter_names=[name, "second", "__base__"])
    wanted = torch.stack([first[0], second[1], held.base[2]])
    return {"off": want_equal(mixed, wanted, "In one batch a row does not get its own adapter")}


def combines(entry: AtlasType) -> dict[str, float]:
    held = hold(entry)
    wanted, name = held.logits(), held.model.active_adapter
    how = {"combination_type": "linear"} if held.entry.type == "LORA" else {}
    held.model.add_weighted_adapter([name], [1.0], "mixture", **how)
    held.model.set_adapter("mixture")
    return {
        "off": want_equal(
            held.logits(), wanted, "add_weighted_adapter of one adapter with weight 1 is another adapter"
        )
    }


def generates(entry: AtlasType) -> dict[str, float]:
    """What ``generate`` writes with its cache on, as by default, beside what the logits name one after another; the
    logits too, as two texts of four tokens can be equal by luck."""
    import torch

    held = hold(entry)
    ids = held.inputs["input_ids"][:1]
    more = {name: value[:1] for name, value in held.inputs.items() if name == "task_ids"}
    result = held.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=4,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
        **more,
    )
    written = result.sequences[0, -4:].tolist()
    text, named, off = ids, list[int](), 0.0
    for _ in range(4):
        kinds = {"input_type_mask": torch.full_like(text, 4)} if entry.type == "CPT" else {}
        with torch.no_grad():
            logits = held.model(input_ids=text, attention_mask=torch.ones_like(text), **more, **kinds).logits
        off = max(off, float((logits[0, -1] - result.logits[len(named)][0]).abs().max()))
        named.append(int(logits[0, -1].argmax()))
        text = torch.cat([text, torch.tensor([[named[-1]]])], dim=1)
    said = "With its cache on, generate() does not write what the logits name one after another"
    if written != named:
        base, _ = tiny.build("llama")
        alone = base.generate(input_ids=ids, max_new_tokens=4, do_sample=False, pad_token_id=0)[
            0, -4:
        ].tolist()
        raise No(said + (": it writes what the base writes." if written == alone else "."))
    if off > SAME:
        raise No(f"{said}: its logits are up to {off:.1g} off.")
    return {}


def _steps(held: Held) -> dict[str, float]:
    """A forward and a backward pass have to work, and to reach a trained parameter."""
    import torch

    held.model.train()
    loss = held.model(**held.inputs).loss
    loss.backward()
    if not torch.isfinite(loss):
        raise No("The loss is not a number.")
    if not any(value.grad is not None for value in held.model.parameters() if value.requires_grad):
        raise No("No trained parameter gets a gradient.")
    return {"loss": float(loss)}


def on_8bit(entry: AtlasType) -> dict[str, float]:
    return _steps(hold(entry, bits=8))


def on_4bit(entry: AtlasType) -> dict[str, float]:
    return _steps(hold(entry, bits=4))


def on_linear(entry: AtlasType) -> dict[str, float]:
    return _steps(hold(entry, target_modules=["o_proj"], **_named(entry)))


def on_conv1d(entry: AtlasType) -> dict[str, float]:
    return _steps(hold(entry, "gpt2", target_modules=["mlp.c_fc"], **_named(entry)))


def on_embedding(entry: AtlasType) -> dict[str, float]:
    if entry.type == "TRAINABLE_TOKENS":
        return _steps(hold(entry))
    return _steps(hold(entry, target_modules=["embed_tokens"], **_named(entry)))


def on_experts(entry: AtlasType) -> dict[str, float]:
    from dataclasses import fields

    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    config: Any = PEFT_TYPE_TO_CONFIG_MAPPING[entry.type]  # type: ignore[index]
    if "target_parameters" not in {each.name for each in fields(config)}:
        raise No("Its config has no target_parameters, which PEFT reaches stacked experts by.")
    return _steps(hold(entry, "mixtral", target_modules=[], target_parameters=["mlp.experts.down_proj"]))


def exports(entry: AtlasType) -> dict[str, float]:
    """As a folder of plain transformers: its names and logits, and nothing of PEFT in it."""
    from transformers import AutoModelForCausalLM

    held, wanted = _merged(entry, "float32")
    with tempfile.TemporaryDirectory() as folder:
        held.model.save_pretrained(folder)
        names = {file.name for file in Path(folder).iterdir()}
        if "model.safetensors" not in names or "adapter_config.json" in names:
            raise No(f"Merged and saved, it is no plain model: the folder has {', '.join(sorted(names))}.")
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        held.model, told = loaded
    lost = [*told["missing_keys"], *told["mismatched_keys"]]
    if lost:
        raise No(
            f"Merged and saved, the file lacks {len(lost)} weights of a plain model, {lost[0]} among them."
        )
    off = want_equal(held.logits(), wanted, "Merged, saved and loaded as a plain model, the outputs differ")
    return {"off": off, "unexpected": len(told["unexpected_keys"])}


CELLS: dict[str, Callable[[AtlasType], dict[str, float]]] = {
    "attaches": attaches, "equal_at_start": equal_at_start, "gradients": gradients, "saves": saves, "merges": merges,
    "merges_bf16": merges_bf16, "unmerges": unmerges, "disables": disables, "several": several,
    "mixed_batch": mixed_batch, "combines": combines, "generates": generates, "on_8bit": on_8bit, "on_4bit": on_4bit,
    "on_linear": on_linear, "on_conv1d": on_conv1d, "on_embedding": on_embedding, "on_experts": on_experts,
    "with_ddp": with_ddp, "exports": exports,
    "trains_causal": trains_causal, "trains_encoder": trains_encoder, "trains_seq2seq": trains_seq2seq,
}  # fmt: skip

#: What says that a type has no such function, in PEFT's words.
_MISSING = re.compile(
    r"object has no attribute '(merge_and_unload|merge_adapter|unmerge_adapter|add_weighted_adapter)'"
)


def run(name: str, cell: str) -> dict[str, Any]:
    """One cell: ``value`` true or false, ``why``, and numbers that were measured on the way."""
    try:
        numbers = CELLS[cell](get_entry(name))
    except No as reason:
        return {"value": False, "why": str(reason)}
    except Lost as reason:
        return {"value": None, "why": str(reason)}
    except Exception as error:  # noqa: BLE001  whatever PEFT raises is the answer
        text = " ".join(str(error).split())
        if "not compiled with CUDA" in text:
            return {"value": None, "why": "It needs a CUDA device, which the probe had not."}
        missing = _MISSING.search(text)
        if missing:
            text = f"PEFT has no {missing[1]}() for this type."
        elif "does not require grad and does not have a grad_fn" in text:
            text = "The loss depends on nothing that is trained."
        elif isinstance(error, NotImplementedError) and not text:
            text = "PEFT has not implemented this for the type."
        elif isinstance(error, KeyError):
            text = f"PEFT looks for {text} and does not find it."
        text = text or f"PEFT ends in a {type(error).__name__} without words."
        return {"value": False, "why": text[:300], "raised": type(error).__name__}
    return {"value": True, "why": "", **numbers}
