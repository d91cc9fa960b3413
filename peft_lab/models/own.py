"""Examine a user's own model before loading it: which of its files are on this machine, what it lacks for training.

A model's folder is what ``save_pretrained`` writes: ``config.json``, weights as safetensors, a tokenizer's files. A
Hugging Face id has the same files in the cache of ``huggingface_hub`` (``HF_HOME``). Only file names, the configs and
the index of the weights are read.
"""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from peft_lab.core import asking, disk
from peft_lab.core.errors import BadInput, echoed
from peft_lab.models import images
from peft_lab.models.shapes import ModelEntry, ModelKind

_LONGEST_REASON = 200
MOST_LAYERS = 1_000  # per stack; more is treated as an error
LARGEST_CONFIG = 5_000_000  # bytes; published configs have a few thousand
# What transformers and torch raise, besides their own checks, for settings that make no valid model.
RAISED = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_UNFIT = (*RAISED, AssertionError, MemoryError)
#: The config fields that hold a stack's number of layers, by architecture.
DEPTH_FIELDS = (
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    "n_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)
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
            f"The index of the weights in '{name}' names '{echoed(foreign[0])}', but there is no such .safetensors "
            "file beside it, so the model was not opened. Save the model again with model.save_pretrained."
        )
    if _config(find).get("transformers_weights") is not None:
        return (
            f"The config of '{name}' names a weights file (transformers_weights), which PEFT Lab does not open. "
            f"Remove that line; the weights belong in {WEIGHTS}."
        )
    if find(ADAPTER) and (find(WEIGHTS) or find(INDEX)):
        return (
            f"'{name}' contains an adapter ({ADAPTER}) beside its model, and transformers would combine them. Move "
            "the adapter to a folder of its own."
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
            f"'{name}' can be counted and simulated here, not trained: a class trains catalogue models and models in "
            "folders that the teacher allowed."
        )
    if problem := astray(name):
        return problem
    files, lacking = weights(find)
    if lacking and not folder:
        if hub_answers() if reached is None else reached:
            return None
        return (
            f"The weights of '{name}' are not in this machine's cache and the Hugging Face Hub was not reached, so "
            "the model can be counted and simulated, not trained."
        )
    if lacking:
        return _no_weights(name, bool(files), lacking)
    if (told := _config(find).get("quantization_config")) is not None:
        how = echoed(told.get("quant_method", "no method named") if isinstance(told, dict) else told)
        return (
            f"The weights of '{name}' are quantised ({how}), so PEFT Lab cannot count or train the model. Use the "
            "original; the method 'qlora' quantises the model itself."
        )
    reads_images = _config(find).get("model_type") in images.TYPES  # and so needs no tokenizer
    # ByT5, CANINE and Perceiver read bytes or characters, and need no vocabulary file.
    named = _config(find, "tokenizer_config.json").get("tokenizer_class")
    plain = named in ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
    if any(find(file) for file in VOCABULARIES) or plain or reads_images:
        return None
    if not folder and (hub_answers() if reached is None else reached):
        return None
    return f"'{name}' has weights but no tokenizer, so it cannot read text. Save one with tokenizer.save_pretrained."


def require(name: str) -> None:
    """Check that :func:`lacks` finds nothing. Raises BadInput with what the model lacks."""
    problem = lacks(name)
    if problem is not None:
        raise BadInput(problem, "model")


def _no_weights(name: str, some: bool, lacking: list[str]) -> str:
    folder = Path(name)
    if some or lacking[0] not in (WEIGHTS, INDEX):
        more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        return f"'{name}' is incomplete: its index names {lacking[0]}{more}, but there is no such file."
    if lacking == [INDEX]:
        return f"The index of the weights in '{name}' cannot be read: {INDEX}."
    if any(any(folder.glob(pattern)) for pattern in _PICKLED):
        return (
            f"The weights of '{name}' are pickles, which can run code when read, so PEFT Lab never opens them. Save "
            "them with model.save_pretrained(..., safe_serialization=True)."
        )
    if (folder / ADAPTER).is_file():
        return f"'{name}' contains an adapter but no model. Give the base's folder, or merge the adapter into the base."
    return (
        f"'{name}' has a config and no weights ({WEIGHTS}), so it can be counted and simulated, not trained."
    )


def _config(find: Find, file: str = CONFIG) -> dict[str, Any]:
    """Return the settings in a JSON file; empty if it cannot be read, which callers report."""
    path = find(file)
    content: dict[str, Any] = disk.read_json(path, {}, _LARGEST_INDEX) if path else {}
    return content


# ----------------------------------------
# The entry of a model outside the catalogue, read from its config.


@cache
def read_entry(name: str, stamped: tuple[object, ...]) -> ModelEntry:
    """Return the entry made from the current config of a folder or a Hugging Face id. Imports torch and transformers.

    ``stamped``: the state of its files (:func:`peft_lab.models.assets.store.stamp`); a changed one is read anew.
    Raises BadInput: the config cannot be read, or its model neither reads text nor classifies images.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, PreTrainedConfig

    from peft_lab.models import meta

    try:
        here = is_folder(name) or not hub_answers()
        if is_folder(name):
            _check_file(Path(name) / "config.json")
        told, _ = PreTrainedConfig.get_config_dict(name, local_files_only=here)
        _check_ends(told, name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=here)
        meta.forget_kernels(config)
        kind = _kind(config, name)
        _check_depth(config, name)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"'{name}' could not be read as a model: {_reason(name, error)}.", "model") from error
    except (StrictDataclassError, *_UNFIT) as error:
        raise BadInput(f"The config of '{name}' is inconsistent: {_first_line(error)}", "model") from error
    title = Path(name).resolve().name if is_folder(name) else name
    try:
        built = meta.build(config, kind)
        shape = meta.read_shape(built, config, kind, name, title)
    except (StrictDataclassError, *_UNFIT) as error:
        raise BadInput(f"The config of '{name}' makes no model: {_first_line(error)}", "model") from error
    live = has_weights(name) or not here
    return ModelEntry(
        name=name,
        title=title,
        kind=kind,
        live=live,
        lacking=lacks(name, reached=live),
        fused_attention=bool(getattr(built, "_supports_sdpa", False)),
        config=config.to_dict(),
        shape=shape,
        source=name,
        revision=getattr(config, "_commit_hash", None),
        license="see the model's own page",
    )


def _check_file(config: Path) -> None:
    """Raise OSError if ``config`` is not a regular file (a pipe would block, a device never end) or too large."""
    found = config.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_CONFIG:
        raise OSError(f"{config} is not a file, or is far too large for a config")


def _first_line(error: Exception) -> str:
    """Return the start of a library's error message on one line; a bare KeyError key becomes "there is no ..."."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = f"there is no {text}" if isinstance(error, KeyError) else text
    return f"{text.rstrip('.')}." if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def _reason(name: str, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "it needs code of its own, which PEFT Lab never runs"
    if "model type" in str(error) or "Unrecognized model" in str(error):
        return "the installed transformers does not know its architecture"
    if is_folder(name):
        return "its folder has no usable config.json"
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return "its owner requires you to accept its terms on its page first"
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return "the Hugging Face Hub has no such model, or it is private"
    return "the Hugging Face Hub was not reached and the model is not in this machine's cache (is there a connection?)"


def _kind(config: Any, name: str) -> ModelKind:
    from transformers.models.auto import modeling_auto as auto

    if config.model_type in images.TYPES:
        return "vision"
    other = what_it_is(config.model_type)
    message = (
        f"'{name}' is {other} ('{config.model_type}'). PEFT Lab supports language models, and image classifiers of "
        f"the types {', '.join(images.TYPES)}."
        if other
        else f"'{name}' is a '{config.model_type}' model, which is not a language model."
    )
    none = BadInput(message, "model")
    if config.is_encoder_decoder:
        # Models that hear or see are encoder-decoders too; only those that read and write text are accepted.
        if config.model_type not in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            raise none
        return "seq2seq"
    named = getattr(config, "architectures", None)
    declared = str(named[0]) if isinstance(named, list) and named else ""
    # BERT types are in the causal mapping too, so a declared causal class decides, then membership.
    encoder = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and "CausalLM" not in declared
    if encoder:
        return "encoder"
    if config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal-lm"
    raise none


def _check_ends(told: Mapping[str, Any], name: str) -> None:
    """Raise BadInput if a layer count, also in a nested config, is too large: configs may list layers one by one."""
    for field, value in told.items():
        if isinstance(value, dict):
            _check_ends(value, name)
        elif field in DEPTH_FIELDS and isinstance(value, int) and value > MOST_LAYERS:
            raise BadInput(f"The config of '{name}' has {field} {value:,}, which is out of range.", "model")


def _check_depth(config: Any, name: str) -> None:
    """Raise BadInput for a stack without layers or an empty vocabulary, which transformers would build anyway."""
    text = config.get_text_config()
    words = getattr(text, "vocab_size", None)
    if isinstance(words, int) and words < 1:
        raise BadInput(
            f"The config of '{name}' has vocab_size {words}; a model has at least one token.", "model"
        )
    for field in DEPTH_FIELDS:
        layers = getattr(text, field, None)
        if isinstance(layers, int) and layers < 1:
            raise BadInput(
                f"The config of '{name}' has {field} {layers}; a model has at least one layer.", "model"
            )


# ----------------------------------------
# Name the kind of a model that is not a language model, by the task lists that transformers keeps.


# Parts of the names of transformers' lists (MODEL_FOR_..._MAPPING_NAMES), most specific first: CLIP is also listed with
# the image classifiers, Whisper with the decoders.
_SENSES = {
    "a model for images and text": (
        "IMAGE_TEXT_TO_TEXT", "MULTIMODAL", "VISUAL_QUESTION", "ZERO_SHOT_IMAGE", "ZERO_SHOT_OBJECT",
    ),
    "a speech or audio model": ("SPEECH", "AUDIO", "CTC", "WAVEFORM", "SPECTROGRAM", "RNNT", "TDT"),
    "a time series model": ("TIME_SERIES",),
    "a vision model": (
        "IMAGE", "OBJECT", "SEGMENTATION", "DEPTH", "VIDEO", "KEYPOINT", "MASK_GENERATION", "POSE", "NORMAL",
    ),
}  # fmt: skip


def what_it_is(model_type: str) -> str | None:
    """Return the kind of model, such as ``a vision model``; ``None`` if transformers lists it for none of these."""
    from transformers.models.auto import modeling_auto as auto

    listed = [
        name for name in dir(auto) if name.endswith("_MAPPING_NAMES") and model_type in getattr(auto, name)
    ]
    for sense, parts in _SENSES.items():
        if any(part in name for name in listed for part in parts):
            return sense
    return None
