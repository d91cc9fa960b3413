"""What is in the adapter file: names, shapes, and numbers that are none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from peft_lab.clinic.evidence import PROOF, SOME, STRONG, Evidence, check
from peft_lab.clinic.features import Features

_A = re.compile(r"\.(?P<target>[\w-]+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")
_CLASSIFIES = "ForSequenceClassification"


@check("tensors")
def empty(seen: Features) -> Iterator[Evidence]:
    """No tensors, or some without entries."""
    tensors = seen.of.tensors or {}
    hollow = [name for name, tensor in tensors.items() if tensor.size == 0]
    if not tensors:
        yield Evidence("empty-adapter", PROOF, f"the file has {seen.of.stored} bytes and no tensors")
    elif hollow:
        yield Evidence(
            "empty-adapter", PROOF, f"{len(hollow)} of {len(tensors)} tensors have no entries: '{hollow[0]}'"
        )


@check("tensors")
def names(seen: Features) -> Iterator[Evidence]:
    """Prefixes that no loader looks for."""
    tensors = seen.of.tensors or {}
    compiled = [name for name in tensors if "_orig_mod." in name]
    if compiled:
        yield Evidence(
            "compiled-keys",
            PROOF,
            f"{len(compiled)} of {len(tensors)} keys hold '_orig_mod.': '{compiled[0]}'",
        )
    nested = [name for name in tensors if name.count("base_model.model.") > 1 or ".base_layer.lora_" in name]
    if nested:
        yield Evidence(
            "wrapped-twice", PROOF, f"{len(nested)} of {len(tensors)} keys are nested: '{nested[0]}'"
        )


@check("tensors", "adapter")
def targets_without_tensors(seen: Features) -> Iterator[Evidence]:
    """Targets of the config that have no weights in the file, while others have."""
    tensors = seen.of.tensors or {}
    if not tensors or not seen.targets:
        return
    lost = [
        target
        for target in seen.targets
        if not any(
            f".{target}." in f".{name}" or f"__{target.replace('.', '_')}." in name for name in tensors
        )
    ]
    if lost and len(lost) < len(seen.targets):
        quoted = ", ".join(f"'{name}'" for name in lost)
        yield Evidence(
            "target-partly-misspelt", PROOF, f"target_modules lists {quoted}, of which the file has no tensor"
        )


@check("tensors", "adapter")
def head(seen: Features) -> Iterator[Evidence]:
    """A classifier without a head in the file."""
    adapter, tensors = seen.of.adapter or {}, seen.of.tensors or {}
    if not tensors or seen.head:
        return
    mapping = adapter.get("auto_mapping")
    built = str(mapping.get("base_model_class")) if isinstance(mapping, dict) else ""
    said = (
        f"the base is a {built}" if _CLASSIFIES in built
        else "task_type is SEQ_CLS" if adapter.get("task_type") == "SEQ_CLS"
        else ""
    )  # fmt: skip
    if said:
        yield Evidence("head-not-saved", PROOF, f"{said}, and none of the {len(tensors)} tensors is a head")


@check("tensors", "adapter")
def shapes(seen: Features) -> Iterator[Evidence]:
    """LoRA's matrices against those of the base that the config names, and against its rank."""
    base, tensors = seen.base, seen.of.tensors or {}
    if base is None or (seen.of.adapter or {}).get("peft_type") not in ("LORA", "ADALORA"):
        return
    sides: dict[str, set[tuple[int, ...]]] = {}
    for group in base.matrices:
        weight = group.parameters.get("weight")
        if weight is not None:
            sides.setdefault(group.path.rsplit(".", 1)[-1], set()).add(tuple(weight))
    for name, tensor in tensors.items():
        found = _A.search(name)
        if found is None or found["target"] not in sides or len(tensor.shape) != 2 or not tensor.size:
            continue
        place = 1 if found["side"] == "A" else 0
        fitting = {weight[1 if place else 0] for weight in sides[found["target"]]}
        if tensor.shape[place] not in fitting:
            wanted = " or ".join(map(str, sorted(fitting)))
            yield Evidence(
                "wrong-base",
                PROOF,
                f"'{name[-70:]}' has {tensor.shape[place]} {'inputs' if place else 'outputs'}; "
                f"{base.title}, which the config names, has {wanted} there",
            )
            return


@check("tensors", "adapter")
def depth(seen: Features) -> Iterator[Evidence]:
    """Layers that the base does not have."""
    base, tensors = seen.base, seen.of.tensors or {}
    numbers = [int(found[1]) for name in tensors if (found := re.search(r"\.layers?\.(\d+)\.", name))]
    if base is not None and base.num_layers and numbers and max(numbers) >= base.num_layers:
        yield Evidence(
            "wrong-base",
            PROOF,
            f"the file has a layer {max(numbers)}; {base.title} has {base.num_layers} layers",
        )


@check("tensors", "tokens")
def vocabulary(seen: Features) -> Iterator[Evidence]:
    """More tokens than the base has rows for, and no embedding in the file."""
    length = seen.of.tokens.length if seen.of.tokens else None
    if seen.base is None or not length or length <= seen.base.vocab or not seen.of.tensors or seen.embedded:
        return
    yield Evidence(
        "vocabulary-not-saved",
        PROOF,
        f"the tokenizer has {length:,} tokens, {seen.base.title} {seen.base.vocab:,}, and no tensor is an embedding",
    )


@check("tensors")
def numbers(seen: Features) -> Iterator[Evidence]:
    """Entries that are no numbers, and weights in 16 bits."""
    tensors = seen.of.tensors or {}
    broken = [name for name, tensor in tensors.items() if tensor.finite < 1]
    half = sum(tensor.dtype == "F16" for tensor in tensors.values())
    if broken:
        said = f"{len(broken)} of {len(tensors)} tensors hold entries that are no numbers"
        yield Evidence("fp16-weights", STRONG if half else SOME, f"{said}; {half} are in fp16")
        yield Evidence("all-masked", SOME, said)
        yield Evidence("rate-too-high", 0.7, said)
    elif half:
        yield Evidence("fp16-weights", 0.7, f"{half} of {len(tensors)} tensors are in fp16")
