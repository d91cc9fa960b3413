"""A user's own model, before it is loaded: which of its files are on this machine, and what it lacks for training.

A model's folder is what ``save_pretrained`` writes: ``config.json``, weights as safetensors, a tokenizer's files. A
Hugging Face id has the same files in the cache of ``huggingface_hub`` (``HF_HOME``). Only file names, the configs and
the index of the weights are read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from peft_lab.core import asking, disk
from peft_lab.core.errors import BadInput, echoed
from peft_lab.models import images

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
#: Files that may make transformers load weights other than :data:`WEIGHTS`.
LEADING = (CONFIG, ADAPTER, INDEX)
#: The vocabulary files transformers makes a tokenizer from; without any, its tokenizer knows no word.
VOCABULARIES = (
    "tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "spm.model", "tekken.json",
    "sentencepiece.bpe.model", "source.spm",
)  # fmt: skip
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
CONNECT_SECONDS = 5.0
_LARGEST_INDEX = 50_000_000  # bytes
#: Returns the path of one of a model's files on this machine; ``None`` if it is missing.
Find = Callable[[str], Path | None]


def is_folder(name: str) -> bool:
    """Return whether such a folder exists and, in a class, may be named; False for text that cannot be a path."""
    if asking.hidden_folder(name):
        return False
    with suppress(OSError, ValueError):
        return bool(name) and Path(name).is_dir()  # an empty text would be the current folder
    return False


def hub_answers() -> bool:
    """Return whether the hub can be reached. Checked first: transformers retries for half a minute if it cannot."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    hub = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def finder(name: str) -> Find:
    """Return the function that finds the files of a folder, or of a Hugging Face id in the cache."""
    if is_folder(name):
        return lambda file: found if (found := Path(name) / file).is_file() else None

    def cached(file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, file)
        return Path(found) if isinstance(found, str) else None

    return cached


def weights(find: Find) -> tuple[list[Path], list[str]]:
    """Return a model's safetensors files, and the names of those that its index lists but are missing."""
    whole = find(WEIGHTS)
    if whole is not None:
        return [whole], []
    names = _indexed(find)
    if names is None:
        return [], [INDEX if find(INDEX) else WEIGHTS]
    found = {name: find(name) for name in names if _is_own(name, find)}
    return [path for path in found.values() if path], [str(name) for name in names if not found.get(name)]


def _indexed(find: Find) -> list[str] | None:
    """Return the files that the index of the weights names; ``None`` if there is no readable index."""
    with suppress(LookupError, TypeError, AttributeError):
        return sorted(map(str, set(_config(find, INDEX)["weight_map"].values())))
    return None


def _is_own(name: str, find: Find) -> bool:
    """Return whether an index entry is a safetensors file beside the index, present or not, and no link elsewhere."""
    if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
        return False
    found, index = find(name), find(INDEX)
    if found is None or index is None:
        return True
    folder = index.parent.resolve()
    if folder.parent.name == "snapshots":  # the hub's cache: its files are links to the blobs beside it
        folder = folder.parents[1]
    return found.resolve().is_relative_to(folder)


def astray(name: str) -> str | None:
    """Return, in one sentence, why transformers would read other files than the model's own safetensors; ``None`` if it
    would not. For a Hugging Face id the files of :data:`LEADING` must be in the cache."""
    find = finder(name)
    foreign = [each for each in _indexed(find) or () if not _is_own(each, find)]
    if foreign:
        return (
            f"The index of the weights in '{name}' names '{echoed(foreign[0])}', which is no .safetensors file beside "
            "it, so nothing of it is opened: save the model anew with model.save_pretrained."
        )
    if _config(find).get("transformers_weights") is not None:
        return (
            f"The config of '{name}' names a file of weights itself (transformers_weights), which is not opened: take "
            f"that line out; the weights lie in {WEIGHTS}."
        )
    if find(ADAPTER) and (find(WEIGHTS) or find(INDEX)):
        return (
            f"'{name}' holds an adapter ({ADAPTER}) beside its model, and transformers would put the two together: "
            "move the adapter to a folder of its own."
        )
    return None


def has_weights(name: str) -> bool:
    """Return whether all safetensors weights of a folder or a Hugging Face id are on this machine."""
    _, lacking = weights(finder(name))
    return not lacking


def lacks(name: str, reached: bool | None = None) -> str | None:
    """Return, in one sentence, why a model, by folder or Hugging Face id, cannot be trained; ``None`` if nothing is
    known to be missing. Files that can still be fetched from the hub are not missing.

    ``reached``: whether the hub can be reached; ``None`` to find out, which may take seconds.
    """
    find, folder = finder(name), is_folder(name)
    if asking.class_is_on() and not folder:
        return (
            f"'{name}' can be counted and simulated here, not trained: a class trains models of the catalogue and "
            "those in folders that its teacher allowed."
        )
    if problem := astray(name):
        return problem
    files, lacking = weights(find)
    if lacking and not folder:
        if hub_answers() if reached is None else reached:
            return None
        return (
            f"The weights of '{name}' are not in the cache of this machine and the Hugging Face Hub was not reached: "
            "it can be counted and simulated, not trained."
        )
    if lacking:
        return _no_weights(name, bool(files), lacking)
    if how := _few_bits(find):
        return (
            f"The weights of '{name}' are stored in few bits ({how}), of which nothing here counts or trains: take the "
            "model that they were made from. The method qlora stores it in few bits itself."
        )
    reads_images = _config(find).get("model_type") in images.TYPES  # and so needs no tokenizer
    if any(find(file) for file in VOCABULARIES) or _needs_none(find) or reads_images:
        return None
    if not folder and (hub_answers() if reached is None else reached):
        return None
    return (
        f"'{name}' has weights but no tokenizer, without which text cannot be read: save one beside them with "
        "tokenizer.save_pretrained."
    )


def require(name: str) -> None:
    """Check that :func:`lacks` finds nothing. Raises BadInput with what the model lacks."""
    problem = lacks(name)
    if problem is not None:
        raise BadInput(problem, "model")


def _few_bits(find: Find) -> str:
    """Return how the weights are quantised according to the config; empty if they are not."""
    told = _config(find).get("quantization_config")
    if told is None:
        return ""
    return echoed(told.get("quant_method", "no method named") if isinstance(told, dict) else told)


def _no_weights(name: str, some: bool, lacking: list[str]) -> str:
    folder = Path(name)
    if some or lacking[0] not in (WEIGHTS, INDEX):
        more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        return f"'{name}' is incomplete: {lacking[0]}{more}, which its index names, is not there."
    if lacking == [INDEX]:
        return f"The index of the weights in '{name}' cannot be read: {INDEX}."
    if any(any(folder.glob(pattern)) for pattern in _PICKLED):
        return (
            f"'{name}' holds its weights as pickles, which may run code when they are read and are never opened here: "
            "save them with model.save_pretrained(..., safe_serialization=True)."
        )
    if (folder / ADAPTER).is_file():
        return f"'{name}' holds an adapter and no model: name the folder of its base, or merge the two first."
    return f"'{name}' has a config and no weights ({WEIGHTS}): it can be counted and simulated, not trained."


def _needs_none(find: Find) -> bool:
    """Return whether the tokenizer reads bytes or characters, as ByT5's and CANINE's, and needs no vocabulary file."""
    named = _config(find, "tokenizer_config.json").get("tokenizer_class")
    return named in ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")


def _config(find: Find, file: str = CONFIG) -> dict[str, Any]:
    """Return the settings in a JSON file; empty if it cannot be read, which callers report."""
    path = find(file)
    content: dict[str, Any] = disk.read_json(path, {}, _LARGEST_INDEX) if path else {}
    return content
