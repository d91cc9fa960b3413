"""Load real weights: of live models, any Hugging Face id or local folder, without running code or unpickling; and stop
chat templates that do not end.

Torch and transformers are imported inside; called from worker processes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from peft_lab.core import machine
from peft_lab.core.errors import BadInput, PeftLabError, Replacement, UnreadableFile, in_short
from peft_lab.core.later import torch
from peft_lab.models import images, meta, own, quantise
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import catalogue, looks_external, misshapen, resolve
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import CLASSIFIERS, HEADS, ModelEntry, in_head

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Processor seconds allowed per text of a chat template; it takes milliseconds, but is a program of the model's.
LONGEST_TEMPLATE = 2.0


class TemplateError(ValueError):
    """A chat template raised an error or took too long. The message is half a sentence."""


class _Guarded:
    """A tokenizer whose template raises TemplateError, for whatever it raises and where it does not end."""

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        try:
            with _limited(LONGEST_TEMPLATE):
                return super().apply_chat_template(*args, **options)  # type: ignore[misc]
        except Exception as error:  # whatever code of a template's raises
            raise TemplateError(f"the model's chat template fails: {in_short(error).rstrip('.')}") from error


def guard_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the tokenizer raise TemplateError for whatever its template raises, or if it does not end. Copies do too."""
    kind = type(tokenizer)
    tokenizer.__class__ = type(kind.__name__, (_Guarded, kind), {"__module__": kind.__module__})


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError if the block uses more processor time. Only a process's main thread can be stopped this way;
    worker processes run templates there."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def over(_number: int, _frame: object) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


# Never stored in 4 or 8 bits: outputs and task heads. By default transformers 5.24 replaces a head that has a bias, and
# bitsandbytes then fails, because a head missing from the checkpoint is never quantised.
KEPT_WHOLE = ("lm_head", *HEADS)
SHORT_ROWS = 128  # tokens up to which plain attention trains faster on a CPU than fused attention


@dataclass(frozen=True)
class Base:
    """A model with its pretrained weights, before a method is applied.

    Attributes:
        tokenizer: for models of images their preprocessing (:class:`peft_lab.models.images.Eye`).
        dtype: of the parameters (of the 16- or 32-bit ones on a quantised base).
        device: ``cuda``, ``mps`` or ``cpu``: :func:`peft_lab.core.machine.in_use`.
    """

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    entry: ModelEntry
    dtype: torch.dtype
    device: str


def attention_for(device: str, max_length: int, entry: ModelEntry) -> Literal["sdpa", "eager"]:
    """Return which of transformers' attention implementations trains fastest.

    torch's fused attention saves memory on long rows; with short rows on a CPU its backward pass takes three times as
    long as plain matrix products (a sixth of a whole step, see docs/decisions/005). Some architectures (Bloom, DeBERTa
    v2, Gemma 2) support only plain attention.
    """
    plain = not entry.fused_attention or (device == "cpu" and max_length <= SHORT_ROWS)
    return "eager" if plain else "sdpa"


def weights_of(name: str) -> str:
    """Return the folder or Hugging Face id to load from. Raises UnknownName: there is no such model. BadInput: the
    model is known by its shape only. AssetError: a live model has not been fetched."""
    if looks_external(name):
        return str(Path(name).absolute()) if Path(name).is_dir() else name
    entry = resolve(name)
    if not entry.live:
        live = " or ".join(known.title for known in catalogue().values() if known.live)
        raise BadInput(
            f"PEFT Lab knows only the shape of {entry.title}: you can count and simulate this model, but not train "
            f"it. Train {live}, or give the Hugging Face id '{entry.source}' if this machine has enough space and "
            "an internet connection.",
            "model",
        )
    return str(assets.path(name))


def load_base(
    name: str,
    num_labels: int | None = None,
    quantization: Quantization | None = None,
    dtype: torch.dtype | None = None,
    attention: str | None = None,
    per_token: bool = False,
) -> Base:
    """Load a model with its pretrained weights, and its tokenizer.

    Args:
        name: a live catalogue name, a Hugging Face id or a local folder.
        num_labels: adds a new classification head of that size to an encoder. Seed torch before: the head is random.
        quantization: stores the linear maps in 4 or 8 bit (bitsandbytes), on the CPU too.
        dtype: of everything else; :func:`peft_lab.core.machine.compute_dtype` when ``None``.
        attention: one of transformers' implementations, as :func:`attention_for` names it; ``None``: its own choice.
        per_token: whether the head labels every token rather than the row.

    Raises:
        BadInput: the model is not live, needs its own code, or has no safetensors weights; or the device cannot hold
            quantised weights.
        AssetError: the weights have not been fetched, or are damaged.
    """
    from peft_lab.core import quiet  # noqa: F401  silences the libraries before they are imported

    source = weights_of(name)
    entry = resolve(name)
    dtype, device = dtype or machine.compute_dtype(), machine.in_use()
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    options["ignore_mismatched_sizes"] = (
        True  # a head for other classes is replaced; all else is refused below
    )
    if quantization is not None:
        device.require_quantisation()
        options["quantization_config"] = quantise.settings(quantization, list(KEPT_WHOLE))
        options["device_map"] = {"": device.kind}
    if attention is not None:
        options["attn_implementation"] = attention
    if looks_external(name):
        _require_own(name)
    factory = meta.auto_class(entry.kind, entry.kind in CLASSIFIERS and num_labels is not None, per_token)
    with _verified(source), no_pickles():
        try:
            options["config"] = _config(source, num_labels)
            model, told = factory.from_pretrained(source, **options, output_loading_info=True)
        except PeftLabError:
            raise
        except Exception as error:  # what its files say is handed to packages of every kind
            raise BadInput(
                f"The weights of '{name}' could not be loaded: {_first_line(error)}", "model"
            ) from error
        _require_whole(name, told["missing_keys"], told["mismatched_keys"])
        reader = _reader(entry, source)
    if quantization is None:
        model.to(device.kind)
    else:
        quantise.settle(model)
    model.config.use_cache = True
    return Base(model, reader, entry, dtype, device.kind)


def _require_own(name: str) -> None:
    """Raise BadInput if transformers would read other files than the model's safetensors. Files that decide this are
    fetched first, by transformers' own rules."""
    from transformers.utils.hub import cached_file

    if not Path(name).is_dir():
        for file in own.LEADING:
            cached_file(
                name, file, _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
            )  # fmt: skip
    if problem := own.astray(name):
        raise BadInput(problem, "model")


PICKLES = Replacement(
    "pickled weights",
    "torch",
    "load",
    "A config or an index can lead a library to a pickle, which can run code when it is read.",
)
_loading = RLock()


@contextmanager
def no_pickles() -> Iterator[None]:
    """Make ``torch.load`` raise BadInput for any file while a library loads weights."""

    def refuse(file: object, *_: object, **__: object) -> NoReturn:
        name = Path(file).name if isinstance(file, str | os.PathLike) else "a file"
        raise BadInput(
            f"{name} is a pickle, which can run code when it is read. The file was not opened.", "model"
        )

    with _loading, PICKLES.by(refuse):
        yield


def _config(source: str, num_labels: int | None) -> Any:
    """Return the model's config without the kernels it requests: they may be a repository's code, and override what
    ``from_pretrained`` is told."""
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(source, trust_remote_code=False)
    meta.forget_kernels(found)
    if num_labels is not None:
        found.num_labels = num_labels
    return found


def _reader(entry: ModelEntry, source: str) -> Any:
    """Return the tokenizer, or for a model of images its preprocessing. Raises BadInput."""
    if entry.kind != "vision":
        return _tokenizer(source)
    from transformers.utils.hub import cached_file

    from peft_lab.models import images as looks

    try:
        told = cached_file(source, looks.PROCESSOR, _raise_exceptions_for_missing_entries=False)
        return looks.eye_of(images.size_of(entry.config), told)
    except (OSError, ValueError, UnreadableFile) as error:
        raise BadInput(f"'{entry.title}' cannot read images: {_first_line(error)}.", "model") from error


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer for the weights at ``source``, with a padding token. Raises BadInput: there is none, or it
    needs its own code. AssetError: it is damaged."""
    with _verified(source):
        return _tokenizer(source)


def _tokenizer(source: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # its reader, in Rust, raises a plain one
        raise BadInput(
            f"No tokenizer could be loaded from '{source}': {_first_line(error)}", "model"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    _require_words(source, tokenizer)
    guard_template(tokenizer)
    return tokenizer


def split_text(name: str, text: str) -> list[str]:
    """Return the tokens of a text as text, by the tokenizer of a live model alone: transformers is not imported. Raises
    AssetError: the model has to be fetched first. BadInput: its tokenizer cannot be read."""
    reader = _reader_of_text(weights_of(name))
    return [str(reader.decode([number])) for number in reader.encode(text, add_special_tokens=False).ids]


@cache
def _reader_of_text(source: str) -> Any:
    from tokenizers import Tokenizer

    with _verified(source):
        try:
            return Tokenizer.from_file(str(Path(source) / "tokenizer.json"))
        except Exception as error:  # it is written in Rust, and raises a plain one
            raise BadInput(
                f"No tokenizer could be loaded from '{source}': {_first_line(error)}", "model"
            ) from error


def _require_whole(name: str, missing: Iterable[str], misfits: Iterable[tuple[str, Any, Any]]) -> None:
    """Raise BadInput if the weights lack a part of the model or hold it in another shape (name, stored shape, the
    model's); transformers would fill it with random numbers. A pooler between an encoder and its head is exempt: it is
    often not published, and is trained from random values like the head."""
    for key, stored, wanted in sorted(misfits):
        if not in_head(key):
            raise misshapen(f"The weights file of '{name}'", key, stored, wanted, "model")
    absent = sorted(key for key in missing if not in_head(key) and "pooler" not in key)
    if absent:
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        raise BadInput(
            f"The weights file of '{name}' lacks weights that the config needs: {absent[0]}{more} would be random.",
            "model",
        )


def _require_words(source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise BadInput for the tokenizer that transformers makes without a vocabulary, which maps every text to unknown
    tokens, and for one with neither a padding nor an end token."""
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise BadInput(f"'{source}' has no tokenizer vocabulary, so it cannot read text.", "model")
    if tokenizer.pad_token_id is None:
        raise BadInput(f"The tokenizer of '{source}' has neither a padding token nor an end token.", "model")


def decoder_start(entry: ModelEntry) -> int | None:
    """Return the id of an encoder-decoder's decoder start token; ``None`` for models of one stack."""
    if entry.kind != "seq2seq":
        return None
    found = entry.config.get("decoder_start_token_id")
    return int(entry.config.get("pad_token_id") or 0) if found is None else int(found)


def pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the padding token's id, or 0; under an attention mask its value does not matter."""
    found: Any = tokenizer.pad_token_id
    return 0 if found is None else int(found)


@contextmanager
def _verified(source: str) -> Iterator[None]:
    """Hash fetched files while they are loaded. Damage takes precedence over any other loading error."""
    name = assets.owner_of(source)
    if name is None:
        yield
        return
    with ThreadPoolExecutor(1) as aside:
        hashes = aside.submit(assets.verified, name)
        try:
            yield
        finally:
            hashes.result()


def _first_line(error: Exception) -> str:
    return in_short(error, 200)
