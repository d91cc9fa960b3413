"""The catalogue: the models that can be named, which of them can be trained here, and the shape of each.

A catalogue entry is one JSON file in ``data/``: the config as published, and the shape read from a model built from it
on the meta device (``python -m tools.refresh_catalogue``; a test compares the two). Any other Hugging Face id or local
path is resolved by :func:`resolve`, without running remote code.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from peft_lab.core import asking
from peft_lab.core.errors import BadInput, UnknownName, echoed
from peft_lab.models import images, own, shapes
from peft_lab.models.assets.store import stamp
from peft_lab.models.own import has_weights, hub_answers, is_folder
from peft_lab.models.shapes import ModelKind, ModelShape

_LONGEST_REASON = 200
_ID = re.compile(r"(?![.-])[\w.-]{1,96}/[\w.-]{1,96}")  # the hub's rule: ./file and ../file are not ids
MOST_LAYERS = 1_000  # per stack; more is treated as an error
LARGEST_CONFIG = 5_000_000  # bytes; published configs have a few thousand
# What transformers and torch raise, besides their own checks, for settings that make no valid model.
_RAISED = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_UNFIT = (*_RAISED, AssertionError, MemoryError)
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


@dataclass(frozen=True)
class ModelEntry:
    """One model that can be named.

    Attributes:
        live: whether ``python -m peft_lab fetch`` fetches its weights, so that it can be trained here; for a model
            outside the catalogue, whether its weights were on this machine or could be fetched at look-up time.
        config: the transformers config as a dictionary, ``model_type`` included.
        source: Hugging Face id, and for live models the package that ships the weights.
        revision: the package version of a live model's weights; ``None`` for models known by shape only.
        fused_attention: whether transformers supports torch's fused attention for it; true for all live models.
    """

    name: str
    title: str
    kind: ModelKind
    live: bool
    config: Mapping[str, Any]
    shape: ModelShape
    source: str
    revision: str | None
    license: str
    fused_attention: bool = True

    @property
    def parameters(self) -> int:
        """The number of parameters, shared ones counted once."""
        return self.shape.total


def _read(text: str) -> ModelEntry:
    data = json.loads(text)
    data["shape"] = shapes.from_dict(data["shape"])
    return ModelEntry(**data)


@cache
def catalogue() -> dict[str, ModelEntry]:
    """Return all entries by name: live ones first, then text models before image models, then by size."""
    folder = resources.files("peft_lab.models") / "data"
    entries = [_read(path.read_text("utf-8")) for path in folder.iterdir() if path.name.endswith(".json")]
    entries.sort(key=lambda entry: (not entry.live, entry.kind == "vision", entry.parameters))
    return {entry.name: entry for entry in entries}


def readers_of_text() -> dict[str, ModelEntry]:
    """Return the entries that read text: those covered by questions, claims, Choose and Plan."""
    return {name: entry for name, entry in catalogue().items() if entry.kind != "vision"}


def model_title(name: str) -> str:
    """Return a model's title; for a name outside the catalogue the name itself, which the page has to escape."""
    return catalogue()[name].title if name in catalogue() else name


def get_model(name: str) -> ModelEntry:
    """Return a catalogue entry by name.

    Raises:
        UnknownName: there is none; the message suggests the nearest name.
    """
    try:
        return catalogue()[name]
    except KeyError:
        raise UnknownName("model in the catalogue", name, catalogue(), "model") from None


def looks_external(name: str) -> bool:
    """Return whether ``name`` is a Hugging Face id (owner/name) or an existing folder rather than a catalogue name."""
    if name in catalogue():
        return False
    # transformers treats an id as a folder if a folder of that name exists
    return is_folder(name) or (
        bool(_ID.fullmatch(name)) and not (asking.class_is_on() and Path(name).exists())
    )


def untrainable(entry: ModelEntry) -> str | None:
    """Return, in one sentence, why a model cannot be trained here; ``None`` if nothing is known to be missing."""
    if entry.name not in catalogue():
        return own.lacks(entry.name, reached=entry.live)
    if entry.live:
        return None
    live = " or ".join(known.title for known in catalogue().values() if known.live)
    return (
        f"{entry.title} is known here by its shape: it can be counted and drawn, not trained. To train, choose {live}, "
        "or a folder with a model of your own; your settings stay as they are."
    )


def weights_here(entry: ModelEntry) -> bool:
    """Return whether a model's weights are on this machine now, so that they can be read without a download."""
    return entry.live if entry.name in catalogue() else has_weights(entry.name)


def resolve(name: str) -> ModelEntry:
    """Return a catalogue entry, or an entry made from the current config of a Hugging Face id or a local folder.

    Imports torch and transformers for names outside the catalogue; never runs code that comes with a model.

    Raises:
        UnknownName: the name is neither in the catalogue nor an id or a folder.
        BadInput: the config cannot be read, or its model neither reads text nor classifies images.
    """
    if not looks_external(name):
        if name not in catalogue() and ("/" in name or name.startswith((".", "~"))):
            place = "that this class may use" if asking.class_is_on() else "on this machine"
            raise BadInput(
                f"'{echoed(name, 200)}' is neither a folder {place} nor a Hugging Face id.", "model"
            )
        return get_model(name)
    return _read_entry(name, stamp(name))


@cache
def _read_entry(name: str, stamped: tuple[object, ...]) -> ModelEntry:
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
    return ModelEntry(
        name=name,
        title=title,
        kind=kind,
        live=has_weights(name) or not here,
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
        raise OSError(f"{config} is not a file, or far too large for a config")


def _first_line(error: Exception) -> str:
    """Return the start of a library's error message on one line; a bare KeyError key becomes "there is no ..."."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = f"there is no {text}" if isinstance(error, KeyError) else text
    return f"{text.rstrip('.')}." if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def _reason(name: str, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "it needs code of its own, which is never run here"
    if "model type" in str(error) or "Unrecognized model" in str(error):
        return "the installed transformers does not know its architecture"
    if is_folder(name):
        return "its folder has no usable config.json"
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return "its owner wants its terms accepted on its page first"
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return "the Hugging Face Hub has no such model, or only for those it is shared with"
    return "the Hugging Face Hub was not reached and nothing of it is kept here (is there a connection?)"


def _kind(config: Any, name: str) -> ModelKind:
    from transformers.models.auto import modeling_auto as auto

    if config.model_type in images.TYPES:
        return "vision"
    other = what_it_is(config.model_type)
    message = (
        f"'{name}' is {other} ('{config.model_type}'); the lab counts language models, and classifiers of images of "
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
            raise BadInput(f"The config of '{name}' says {field} {value:,}, which cannot be right.", "model")


def _check_depth(config: Any, name: str) -> None:
    """Raise BadInput for a stack without layers or an empty vocabulary, which transformers would build anyway."""
    text = config.get_text_config()
    words = getattr(text, "vocab_size", None)
    if isinstance(words, int) and words < 1:
        raise BadInput(
            f"The config of '{name}' says vocab_size {words}; a model has at least one token.", "model"
        )
    for field in DEPTH_FIELDS:
        layers = getattr(text, field, None)
        if isinstance(layers, int) and layers < 1:
            raise BadInput(
                f"The config of '{name}' says {field} {layers}; a model has at least one layer.", "model"
            )


# ----------------------------------------
# Name the kind of a model that is not a language model, by the task lists that transformers keeps.


# Parts of the names of transformers' lists (MODEL_FOR_..._MAPPING_NAMES), most specific first: CLIP is also listed with
# the image classifiers, Whisper with the decoders.
_SENSES = {
    "a model of images and text": (
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


# ----------------------------------------
# Errors that PEFT and torch raise, on purpose or not, and how they are reported.


_SIZE = re.compile(
    r"size mismatch for (?P<name>\S+): copying a param with shape torch\.Size\(\[(?P<found>[\d, ]*)\]\) from "
    r"checkpoint, the shape in current model is torch\.Size\(\[(?P<wanted>[\d, ]*)\]\)"
)

# Raised for invalid values (a zero rank, a broken pattern), a missing package, or an unsupported model.
REFUSALS = (*_RAISED, re.error)


def reason(error: Exception) -> str:
    """Return the text of an error of PEFT's as the end of a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"one of its values has the wrong type ({text})" if isinstance(error, TypeError) else text


def misshapen(
    holder: str, name: str, stored: Sequence[int], wanted: Sequence[int], field: str = "adapter"
) -> BadInput:
    """Return the error for a stored tensor whose shape differs from the model's; both shapes in torch's order."""
    shapes = (" × ".join(map(str, shape)) or "a single number" for shape in (stored, wanted))
    return BadInput("{} holds '{}' as {}, where this model has {}.".format(holder, name, *shapes), field)


@contextmanager
def fitting_shapes() -> Iterator[None]:
    """Convert torch's complaint about a tensor's shape, while an adapter is loaded, to :func:`misshapen`'s error.

    Raises:
        BadInput: a tensor of the adapter does not have the model's shape; the first one is named.
    """
    try:
        yield
    except RuntimeError as error:
        told = _SIZE.search(str(error))
        if told is None:
            raise
        stored, wanted = (
            [int(size) for size in re.findall(r"\d+", told[part])] for part in ("found", "wanted")
        )
        # PEFT loads a prompt into an embedding, so torch names that embedding's only tensor
        name = "prompt_embeddings" if told["name"] == "weight" else told["name"]
        raise misshapen("The adapter", name, stored, wanted) from error
