"""The catalogue: which models can be named, which of them run live, and the shape of each.

A catalogue entry is one JSON file in ``catalogue/``: the config as published, and the shape read off the model built
from it on the meta device (``python -m tools.refresh_catalogue``; a test compares the two). Any other Hugging Face id
or local path is resolved by :func:`resolve`, without running remote code.
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
_ID = re.compile(r"(?![.-])[\w.-]{1,96}/[\w.-]{1,96}")  # as the hub takes them: ./file and ../file are none
MOST_LAYERS = 1_000  # of a stack; more are taken for a slip
LARGEST_CONFIG = 5_000_000  # bytes; published ones have some thousand
# What transformers and torch raise over settings that fit no model, besides what their own checks say.
_UNFIT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
#: Where architectures keep the number of layers of a stack.
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
        live: whether its weights are fetched by ``python -m peft_lab fetch``, so that it can be trained here; for a
            model outside the catalogue, whether they were on this machine or could be fetched when it was looked up.
        config: the transformers config as a dictionary, ``model_type`` included.
        source: Hugging Face id, and for live models the package the weights came in.
        revision: the package version of the weights of a live model; ``None`` for models known by shape only.
        fused_attention: whether transformers computes it with torch's fused attention; all live ones can be.
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
        """All parameters, shared ones once."""
        return self.shape.total


def _read(text: str) -> ModelEntry:
    data = json.loads(text)
    data["shape"] = shapes.from_dict(data["shape"])
    return ModelEntry(**data)


@cache
def catalogue() -> dict[str, ModelEntry]:
    """All entries by name, live ones first and of those the ones that read text, then by size."""
    folder = resources.files("peft_lab.models") / "data"
    entries = [_read(path.read_text("utf-8")) for path in folder.iterdir() if path.name.endswith(".json")]
    entries.sort(key=lambda entry: (not entry.live, entry.kind == "vision", entry.parameters))
    return {entry.name: entry for entry in entries}


def readers_of_text() -> dict[str, ModelEntry]:
    """The entries that read text: those that questions, claims, Choose and Plan are about."""
    return {name: entry for name, entry in catalogue().items() if entry.kind != "vision"}


def model_title(name: str) -> str:
    """A model's title; of one that the catalogue does not have, its name, which is for a page to escape."""
    return catalogue()[name].title if name in catalogue() else name


def get_model(name: str) -> ModelEntry:
    """A catalogue entry by name.

    Raises:
        UnknownName: with the nearest name.
    """
    try:
        return catalogue()[name]
    except KeyError:
        raise UnknownName("model in the catalogue", name, catalogue(), "model") from None


def looks_external(name: str) -> bool:
    """Whether ``name`` is a Hugging Face id (owner/name) or an existing local folder rather than a catalogue name."""
    if name in catalogue():
        return False
    # transformers takes an id for a folder where there is one of that name
    return is_folder(name) or (
        bool(_ID.fullmatch(name)) and not (asking.class_is_on() and Path(name).exists())
    )


def untrainable(entry: ModelEntry) -> str | None:
    """Why a model cannot be trained here, in one sentence; ``None`` where nothing is known to be missing now."""
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
    """Whether a model's weights are on this machine now, so that nothing has to be fetched to look at them."""
    return entry.live if entry.name in catalogue() else has_weights(entry.name)


def resolve(name: str) -> ModelEntry:
    """A catalogue entry, or an entry made from the config of a Hugging Face id or a local folder, as it is now.

    Imports torch and transformers for names outside the catalogue; never runs code that comes with a model.

    Raises:
        UnknownName: neither in the catalogue nor an id or a folder.
        BadInput: the config cannot be had, or is that of a model that neither reads text nor classifies images.
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
    """Raises OSError for what is no file (a pipe would be waited for, a device read without end) or far too large."""
    found = config.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_CONFIG:
        raise OSError(f"{config} is not a file, or far too large for a config")


def _first_line(error: Exception) -> str:
    """What a library says in its first sentence or so, on one line; some name no more than a key."""
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
        # So are models that hear or see; only those that read text and write it are meant.
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
    """Raises BadInput for stacks without end, of its parts too: a config object may list its layers one by one."""
    for field, value in told.items():
        if isinstance(value, dict):
            _check_ends(value, name)
        elif field in DEPTH_FIELDS and isinstance(value, int) and value > MOST_LAYERS:
            raise BadInput(f"The config of '{name}' says {field} {value:,}, which cannot be right.", "model")


def _check_depth(config: Any, name: str) -> None:
    """Raises BadInput for stacks without layers, and for no words: transformers builds what it can."""
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
# What a model that is no language model is, from the lists by task that transformers keeps.


# Parts of the names of transformers' lists (MODEL_FOR_..._MAPPING_NAMES), the telling ones first: CLIP is also in the
# list of image classifiers, Whisper in that of decoders.
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
    """``a vision model`` and so on; ``None`` where transformers lists the architecture for none of these."""
    from transformers.models.auto import modeling_auto as auto

    listed = [
        name for name in dir(auto) if name.endswith("_MAPPING_NAMES") and model_type in getattr(auto, name)
    ]
    for sense, parts in _SENSES.items():
        if any(part in name for name in listed for part in parts):
            return sense
    return None


# ----------------------------------------
# What PEFT and torch raise when they refuse, on purpose or by accident, and how that is told.


_SIZE = re.compile(
    r"size mismatch for (?P<name>\S+): copying a param with shape torch\.Size\(\[(?P<found>[\d, ]*)\]\) from "
    r"checkpoint, the shape in current model is torch\.Size\(\[(?P<wanted>[\d, ]*)\]\)"
)

# For values it cannot use (a zero rank, a broken pattern), a missing package, a model it was not written for.
REFUSALS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    re.error,
)


def reason(error: Exception) -> str:
    """What PEFT raised, as the end of a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"one of its values has the wrong type ({text})" if isinstance(error, TypeError) else text


def misshapen(
    holder: str, name: str, stored: Sequence[int], wanted: Sequence[int], field: str = "adapter"
) -> BadInput:
    """Return the error for a stored tensor whose shape is not the model's; both shapes as torch has them."""
    shapes = (" × ".join(map(str, shape)) or "a single number" for shape in (stored, wanted))
    return BadInput("{} holds '{}' as {}, where this model has {}.".format(holder, name, *shapes), field)


@contextmanager
def fitting_shapes() -> Iterator[None]:
    """Load an adapter within: torch's complaint about a shape becomes :func:`misshapen`'s error.

    Raises:
        BadInput: the first tensor of the adapter whose shape is not the model's.
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
        # PEFT puts a prompt into an embedding, whose one tensor torch then names
        name = "prompt_embeddings" if told["name"] == "weight" else told["name"]
        raise misshapen("The adapter", name, stored, wanted) from error
