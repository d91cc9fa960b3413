"""Write a plan as config files of other tools: accelerate, SkyPilot, Axolotl, LLaMA-Factory.

Every key was read in the sources of the version named here; tests check accelerate's against the library.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.advise.plans import steps
from peft_lab.advise.plans.ranking import Planned
from peft_lab.advise.plans.steps import loading
from peft_lab.advise.plans.wanted import (
    NAME,
    REFUSALS,
    ROWS,
    PlanFacts,
    Wanted,
    gather_facts,
    needed,
    refusal_to_write,
)
from peft_lab.advise.recipes.rules import ALL_LINEAR, CONTENT
from peft_lab.core.content import read_entry
from peft_lab.engine.devices import cards, devices
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import ModelEntry
from peft_lab.takeaway.card import hub_id
from peft_lab.takeaway.generator import fill
from peft_lab.takeaway.ranks import HELD, PARTS

#: Versions in whose sources the keys were read.
ACCELERATE, AXOLOTL, LLAMA_FACTORY, SKYPILOT = "1.15.0", "0.19.0", "0.9.5", "0.14.1"
PADDED, BARE, NARROW, WIDE, UNJUDGED, NOT_PACKED_ALIKE = map(
    REFUSALS.__getitem__, ("padded", "bare", "narrow", "wide", "unjudged", "not packed alike")
)
_OPTIMIZERS = {
    "adamw": "adamw_torch", "adamw8bit": "adamw_bnb_8bit", "paged_adamw8bit": "paged_adamw_8bit",
    "paged_adamw": "paged_adamw_32bit", "sgd": "sgd",
}  # fmt: skip


#: The command by which another launcher starts LLaMA-Factory.
_LAUNCHED = "-m llamafactory.launcher llama_factory.yaml"


def accelerate(facts: PlanFacts, layer: str, scripted: bool = True) -> str:
    """Return the config for ``accelerate launch --config_file``.

    ``layer``: the class of the model's layers. ``scripted``: whether it launches the script, or LLaMA-Factory.
    """
    launched = f"{NAME} {ROWS}" if scripted else _LAUNCHED
    return _config("accelerate", facts, layer=layer, launched=launched, ACCELERATE=ACCELERATE)


def skypilot(facts: PlanFacts, gpu: str) -> str:
    """Return the config for ``sky launch``. The script and its rows must lie beside this file."""
    size = round(devices()[gpu].total / 2**30) if gpu in devices() else gpu.removesuffix("GB")
    packages = (*needed(facts), "peft")
    named = (gpu in cards() and cards()[gpu].skypilot) or f"{size}GB+"
    return _config("skypilot", facts, accelerator=named, packages=packages, SKYPILOT=SKYPILOT)


def axolotl(facts: PlanFacts, layer: str) -> str:
    """Return the config for ``axolotl train``."""
    return _config("axolotl", facts, layer=layer, **_trained(facts), AXOLOTL=AXOLOTL)


def llama_factory(facts: PlanFacts) -> str:
    """Return the config for ``llamafactory-cli train``; ``dataset_info.json`` names its data set."""
    words = re.split(r"[-_/]", hub_id(facts.entry).lower())
    chat_model = bool({"instruct", "chat", "it"} & set(words))
    return _config(
        "llama_factory",
        facts,
        chat_model=chat_model,
        launched=_LAUNCHED,
        **_trained(facts),
        LLAMA_FACTORY=LLAMA_FACTORY,
    )


def _config(name: str, facts: PlanFacts, **more: Any) -> str:
    return fill(f"{name}.yaml.j2", facts=facts, plan=facts.plan, NAME=NAME, ROWS=ROWS, **more)


def _trained(facts: PlanFacts) -> dict[str, Any]:
    """Return what the configs of Axolotl and LLaMA-Factory have in common."""
    targets = tuple(facts.values.get("target_modules", ()))
    return {
        "hub_id": hub_id(facts.entry),
        "targets": targets,
        "all_linear": targets == (ALL_LINEAR,) or set(targets) >= set(facts.entry.shape.target_names),
        "optimizer": _OPTIMIZERS[facts.plan.optimizer],
        "HELD": HELD,
        "PARTS": PARTS,
        "PADDED": PADDED,
        "BARE": BARE,
    }


def axolotl_refusal(facts: PlanFacts) -> str:
    """Return why no Axolotl config can run this plan; empty if one can."""
    if reason := _refusal(facts):
        return reason
    if facts.method.slug == "full" and facts.sharded != (facts.plan.remembered == "float32"):
        return WIDE if facts.sharded else NARROW
    return UNJUDGED if facts.objective == "preference" and facts.sharded and facts.four_bits else ""


def _refusal(facts: PlanFacts) -> str:
    """Return why neither Axolotl nor LLaMA-Factory can run this plan; empty if they can."""
    slug, plan = facts.method.slug, facts.plan
    shape, packed = facts.entry.shape, facts.four_bits and facts.sharded
    cases = {
        "methods": slug not in ("lora", "qlora", "full") or facts.entry.kind != "causal-lm",
        "wide base": slug != "full" and plan.mixed,
        "narrow adapters": plan.adapter_dtype not in ("", "float32"),
        "other losses": facts.objective in ("rl", "embedding"),
        "experts": bool(facts.values.get("target_parameters")),
        "split matrices": facts.by_matrices,
        "whole base": packed and loading(shape, slug, plan).main_bytes > plan.memory_bytes,
        "optimizer": plan.optimizer not in _OPTIMIZERS,
    }
    reason = next((REFUSALS[case] for case, there in cases.items() if there), "")
    return reason.format(optimizer=OPTIMIZER_TITLES[plan.optimizer].partition(" with")[0])


def factory_refusal(facts: PlanFacts) -> str:
    """Return why no LLaMA-Factory config can run this plan; empty if one can."""
    return _refusal(facts) or (NOT_PACKED_ALIKE if facts.plan.packed and facts.objective == "cpt" else "")


# ----------------------------------------
# All files that run a plan, by name; for those that cannot be written, the reason.


_DATE = (1980, 1, 1, 0, 0, 0)
ABOUT = read_entry(CONTENT / "files.yaml", dict[str, str])


@dataclass(frozen=True)
class Written:
    """The files' texts by name, and the reasons for missing files by name."""

    files: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def reasons(self) -> dict[str, tuple[str, ...]]:
        """Return the missing files by reason, so that a shared reason is given once."""
        found: dict[str, tuple[str, ...]] = {}
        for name, reason in self.missing.items():
            found[reason] = (*found.get(reason, ()), name)
        return found

    def zipped(self) -> bytes:
        """Return all files as one zip archive; equal plans make equal bytes."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in self.files.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), text)
        return made.getvalue()


def write(fields: Mapping[str, Any], planned: Planned) -> Written:
    """Return the files of a plan that fits. Imports torch; pages call it in another process. Raises BadInput for
    settings that cannot be written."""
    wanted = Wanted(**fields)
    assert planned.plan is not None
    entry = resolve(wanted.model)
    facts = gather_facts(entry, planned.candidate.method, planned.plan, wanted.situation().purpose)
    layer = layer_class(entry) if facts.sharded else ""
    reasons = {NAME: refusal_to_write(facts), "axolotl.yaml": axolotl_refusal(facts)}
    reasons["llama_factory.yaml"] = factory_refusal(facts)
    missing = {name: reason for name, reason in reasons.items() if reason}
    files: dict[str, str] = {}
    if NAME not in missing:
        files[NAME] = steps.script(facts)
        files["accelerate.yaml"] = accelerate(facts, layer)
        files["skypilot.yaml"] = skypilot(facts, wanted.gpu)
    if "axolotl.yaml" not in missing:
        files["axolotl.yaml"] = axolotl(facts, layer)
    if "llama_factory.yaml" not in missing:
        files["llama_factory.yaml"] = llama_factory(facts)
        files["dataset_info.json"] = _dataset(facts.objective)
        if facts.sharded and NAME in missing:  # LLaMA-Factory is launched with it
            files["accelerate.yaml"] = accelerate(facts, layer, scripted=False)
    return Written(files, missing)


def layer_class(entry: ModelEntry) -> str:
    """Return transformers' class names of a model's layers. Builds the model without values; imports torch. Raises
    BadInput if transformers does not name them."""
    import torch
    from transformers import AutoModel

    from peft_lab.core.errors import BadInput
    from peft_lab.models import meta

    with torch.device("meta"):
        model = AutoModel.from_config(meta.make_config(entry.config))
    names = sorted(model._no_split_modules or ())
    found = {type(module).__name__ for module in model.modules()} & set(names)
    if not found:
        raise BadInput(f"transformers does not give the name of the layers of {entry.title}.", "model")
    return ",".join(sorted(found))


def _dataset(objective: str) -> str:
    columns = {"prompt": "text"} if objective == "cpt" else {"prompt": "prompt", "response": "completion"}
    rows: dict[str, Any] = {"file_name": ROWS, "columns": columns}
    if objective == "preference":
        rows |= {"ranking": True, "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}}
    return json.dumps({"rows": rows}, indent=2) + "\n"
