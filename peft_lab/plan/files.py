"""Everything that carries a plan out, as files by name; what cannot be written says why."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.models.catalogue import ModelEntry, resolve
from peft_lab.plan import configs, script
from peft_lab.plan.facts import NAME, ROWS, gather, refusal
from peft_lab.plan.ranking import Planned
from peft_lab.plan.wanted import Wanted

_DATE = (1980, 1, 1, 0, 0, 0)
ABOUT = {
    NAME: "the training itself: plain libraries, with the lab's own step. One row in twenty is "
    "held out; after every tenth of the updates it prints their loss and keeps a checkpoint; the same call goes on",
    "accelerate.yaml": "the same ranks for accelerate",
    "skypilot.yaml": "rents the GPUs and starts the script, for SkyPilot",
    "axolotl.yaml": "the same settings for Axolotl",
    "llama_factory.yaml": "the same settings for LLaMA-Factory",
    "dataset_info.json": "where LLaMA-Factory finds the rows",
}


@dataclass(frozen=True)
class Written:
    """Texts by file name, and by file name why one is missing."""

    files: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def reasons(self) -> dict[str, tuple[str, ...]]:
        """The files that are missing, by why: what two tools lack for one reason is said once."""
        found: dict[str, tuple[str, ...]] = {}
        for name, reason in self.missing.items():
            found[reason] = (*found.get(reason, ()), name)
        return found

    def zipped(self) -> bytes:
        """All files in one; equal plans make equal bytes."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in self.files.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), text)
        return made.getvalue()


def write(fields: Mapping[str, Any], planned: Planned) -> Written:
    """The files of a plan that fits. Imports torch; pages ask it in another process.

    Raises:
        BadInput: settings that cannot be written.
    """
    wanted = Wanted(**fields)
    assert planned.plan is not None
    entry = resolve(wanted.model)
    facts = gather(entry, planned.candidate.method, planned.plan, wanted.situation().purpose)
    layer = layer_class(entry) if facts.sharded else ""
    files: dict[str, str] = {}
    missing: dict[str, str] = {}
    reason = refusal(facts)
    if reason:
        missing[NAME] = reason
    else:
        files[NAME] = script.script(facts)
        files["accelerate.yaml"] = configs.accelerate(facts, layer)
        files["skypilot.yaml"] = configs.skypilot(facts, wanted.gpu)
    reason = configs.axolotl_refusal(facts)
    if reason:
        missing["axolotl.yaml"] = reason
    else:
        files["axolotl.yaml"] = configs.axolotl(facts, layer)
    reason = configs.factory_refusal(facts)
    if reason:
        missing["llama_factory.yaml"] = reason
    else:
        files["llama_factory.yaml"] = configs.llama_factory(facts)
        files["dataset_info.json"] = _dataset(facts.objective)
        if facts.sharded and NAME in missing:  # it is started with that
            files["accelerate.yaml"] = configs.accelerate(facts, layer, scripted=False)
    return Written(files, missing)


def layer_class(entry: ModelEntry) -> str:
    """What transformers calls the class of a model's layers. Builds the model without values; imports torch.

    Raises:
        BadInput: a model whose layers have no such name.
    """
    import torch
    from transformers import AutoModel

    from peft_lab.errors import BadInput
    from peft_lab.models import meta

    with torch.device("meta"):
        model = AutoModel.from_config(meta.make_config(entry.config))
    names = sorted(model._no_split_modules or ())
    found = {type(module).__name__ for module in model.modules()} & set(names)
    if not found:
        raise BadInput(f"transformers does not say what the layers of {entry.title} are called.", "model")
    return ",".join(sorted(found))


def _dataset(objective: str) -> str:
    columns = {"prompt": "text"} if objective == "cpt" else {"prompt": "prompt", "response": "completion"}
    rows: dict[str, Any] = {"file_name": ROWS, "columns": columns}
    if objective == "preference":
        rows |= {"ranking": True, "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}}
    return json.dumps({"rows": rows}, indent=2) + "\n"
