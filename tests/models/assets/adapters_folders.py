"""Folders that the adapters library saved.

    python3 -m venv /tmp/env && /tmp/env/bin/pip install adapters==1.3.0 torch
    /tmp/env/bin/python -m tests.models.assets.adapters_folders    # makes what lies beside this file

Models and weights are those of :mod:`tests.models.assets.adapters_library`.
"""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.models.assets import adapters_library as made

ZIP = Path(__file__).with_name("adapters_saved.zip")  # weights lie in no folder of this project
_unpacked = tempfile.TemporaryDirectory(prefix="adapters_saved")  # removed when the process ends
FOLDER = Path(_unpacked.name)
if ZIP.exists():
    shutil.unpack_archive(ZIP, FOLDER)
FILE = Path(__file__).with_suffix(".json")
LABELS = 3
#: Kept whole: model type and placement, and whether it was saved as safetensors. The first is a classifier.
WHOLE = (("bert", "seq_bn", True), ("llama", "par_bn", False), ("t5", "double_seq_bn", False))
CLASSIFIER = "bert-seq_bn"
#: By the library's names: what PEFT Lab does not build.
OTHERS = (
    "mam", "unipelt", "compacter", "compacter++", "prefix_tuning", "prompt_tuning", "lora", "ia3", "loreft",
    "scaled_par_bn", "seq_bn_inv", "double_seq_bn_inv",
)  # fmt: skip


def classifier(adapters: Any) -> Any:
    """A BERT with three labels, every weight from its name."""
    import transformers

    config: Any = transformers.AutoConfig.for_model("bert", **made._ENCODER, num_labels=LABELS)
    model: Any = transformers.BertForSequenceClassification(config).double()
    if adapters is not None:
        adapters.init(model)
    made.fill(model, keep=".adapters.")
    return model


def logits(model: Any, kind: str) -> list[float]:
    """As :func:`made.answer`, of a classifier too."""
    import torch

    with torch.no_grad():
        found = model.eval()(**made.inputs(kind))
    answer = found.logits if "logits" in found else found.last_hidden_state
    flat: list[float] = answer.flatten().tolist()
    return flat


def record() -> None:
    adapters = importlib.import_module("adapters")
    found: dict[str, Any] = {"configs": {}, "names": {}, "others": {}}
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    scratch = FOLDER / "scratch"
    for model_type in made.MODELS:
        for placement in made.PLACEMENTS:
            model, _ = made._made(adapters, model_type, placement)
            model.save_adapter(str(scratch), "here", with_head=False, use_safetensors=True)
            name = f"{model_type}-{placement}"
            found["configs"][name] = json.loads((scratch / "adapter_config.json").read_text("utf-8"))
            load_file = importlib.import_module("safetensors.torch").load_file
            found["names"][name] = sorted(load_file(str(scratch / "adapter.safetensors")))
    for model_type, placement, safe in WHOLE:
        name = f"{model_type}-{placement}"
        model, _ = made._made(adapters, model_type, placement)
        if name == CLASSIFIER:
            state = model.state_dict()
            model = classifier(adapters)
            options = {"reduction_factor": made.HIDDEN / made.WIDTH, "non_linearity": made.NONLINEARITY}
            model.add_adapter(
                "here", config=adapters.AdapterConfig.load(placement, **options), set_active=True
            )
            model.double()
            model.bert.load_state_dict(
                {key: value for key, value in state.items() if ".here." in key}, strict=False
            )
            found["classifier"] = logits(model, "encoder")
        model.save_adapter(str(FOLDER / name), "here", with_head=name == CLASSIFIER, use_safetensors=safe)
    for each in OTHERS:
        model = made.build("bert", *made.MODELS["bert"])
        adapters.init(model)
        narrow = (
            {"reduction_factor": 4} if each.startswith("compacter") else {}
        )  # its parts have to divide the width
        model.add_adapter("here", config=adapters.AdapterConfig.load(each, **narrow))
        model.save_adapter(str(scratch), "here", with_head=False)
        found["others"][each] = json.loads((scratch / "adapter_config.json").read_text("utf-8"))
    shutil.rmtree(scratch)
    shutil.make_archive(str(ZIP.with_suffix("")), "zip", FOLDER)
    groups = [f' "{key}": {json.dumps(found.pop("classifier"))}' for key in ("classifier",)]
    for key, rows in found.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
        groups.append(f' "{key}": {{\n{lines}\n }}')
    FILE.write_text("{\n" + ",\n".join(groups) + "\n}\n", "utf-8")


if __name__ == "__main__":
    record()
